//! The text of a payload, unless it is too long. `jsonb` keeps `1e-9000` in a dozen bytes and writes it out in full, so
//! a small row can be megabytes of text, or more than the gigabyte that the server can make at all, which fails the
//! whole statement. This program accepts no such payload any more; older versions and other services have stored some.
//!
//! What the text costs is therefore known before it is made. A small value is written out at once; one of medium size
//! is written out, and measured before it is sent; only a large one is searched for long numbers first, which takes
//! longer than to write it.

/// What a reader is told of a row whose payload has no text. The order can be deleted, or given another payload.
pub(super) const TOO_LONG: &str = "its payload is too long when its numbers are written out";

/// SQL for the text of a `jsonb` payload: `null` where there is none, and NULL where it is too long.
///
/// No number takes fewer than some sixteen bytes, or more than 150 kB of text. So up to 512 bytes are not much more
/// than 4 MiB of text, and up to 32 KiB are within what the server can make; sent is 1 MiB of that, since an accepted
/// payload of that size is shorter. Beyond, the numbers that may be long are added up: very large, very small, or zero
/// with decimals; of them, too, 1 MiB may be what their bytes do not account for. At 128 MiB nothing that is in a
/// string, where one byte becomes six at most, is more than the server can make.
///
/// The path asks for usual numbers first, which makes it twice as fast; what is not a number compares as unknown, and
/// is not found. `jsonb_path_query_first` only copies a value that is compressed or kept elsewhere, so that it is
/// fetched once.
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
