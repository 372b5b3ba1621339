//! SQL for the text of a payload, unless the text is too long. `jsonb` stores `1e-9000` in a dozen bytes and writes it
//! out in full, so a small row can be megabytes of text, or more than the server's limit of a gigabyte, which fails the
//! whole statement. This program does not accept such payloads any more; older versions and other services stored some.
//!
//! The size of the text is therefore checked before the text is made. A small value is written out at once; a medium
//! one is written out, and measured before it is sent; only a large one is searched for long numbers first, which takes
//! longer than writing it out.

/// The damage of a row whose payload is too long. The order can be deleted, or get another payload.
pub(super) const TOO_LONG: &str = "its payload is too long when its numbers are written out";

/// SQL for the text of a `jsonb` payload: `null` where the payload is missing, and NULL where the text is too long.
///
/// A number takes at least some sixteen bytes of `jsonb`, and at most 150 kB of text. So 512 bytes are at most about 4
/// MiB of text, and 32 KiB are within the server's limit; of those, texts up to 1 MiB are sent, because an accepted
/// payload of that size is shorter. Beyond 32 KiB the lengths of numbers that may be long are added up (very large,
/// very small, or zero with decimals); they may exceed their bytes by 1 MiB. Up to 128 MiB strings, in which one byte
/// becomes at most six, stay within the server's limit.
///
/// The path tests for usual numbers first, which makes it twice as fast; a value that is not a number compares as
/// unknown, and is not found. `jsonb_path_query_first` copies a value that is compressed or out of line, so that it is
/// fetched only once.
macro_rules! payload_text {
    ($payload:literal) => {
        concat!(
            "CASE WHEN ",
            $payload,
            " IS NULL THEN 'null' WHEN pg_column_size(",
            $payload,
            ") <= 512 AND pg_column_compression(",
            $payload,
            ") IS NULL THEN ",
            $payload,
            "::text ELSE (
                SELECT CASE
                       WHEN pg_column_size(whole.value) <= 32768 THEN (
                           SELECT short.text FROM (SELECT whole.value::text AS text OFFSET 0) AS short
                            WHERE octet_length(short.text) <= 1048576)
                       WHEN pg_column_size(whole.value) <= 134217728 AND (
                           SELECT coalesce(sum(scale(long.number)
                                               + CASE WHEN abs(long.number) < 1 THEN 1 WHEN abs(long.number) < 1e400
                                                      THEN length(trunc(long.number)::text) ELSE 131072 END), 0)
                             FROM (SELECT found::numeric AS number
                                     FROM jsonb_path_query(whole.value, 'strict $.** ? (!(@ > 1e-20 && @ < 1e40)
                                              && (@ < 1e-20 && @ > -1e-20 || @ > 1e40 || @ < -1e40))') AS found
                                  ) AS long
                       ) <= 1048576 + 2 * pg_column_size(whole.value)::int8 THEN whole.value::text
                       END
                  FROM (SELECT CASE WHEN pg_column_compression(",
            $payload,
            ") IS NULL AND pg_column_size(",
            $payload,
            ") <= 32768 THEN ",
            $payload,
            " ELSE jsonb_path_query_first(",
            $payload,
            ", '$') END AS value OFFSET 0) AS whole) END"
        )
    };
}

pub(super) use payload_text;
