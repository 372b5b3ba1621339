#!/usr/bin/env python3
"""Creates an order, and repeats the request where that is safe and useful. The standard library is enough.

    python3 examples/client.py '{"id":"A-1","amount":"12.50"}'

Settings, as variables: ORDERSTREAM_SERVER (http://127.0.0.1:8080), USER_ID.

What makes it safe: one Idempotency-Key, made before the first attempt and kept for all of them. A further attempt with
that key never has a second effect, and is answered with the outcome of the first one.

What it repeats: a problem that says `"retryable":true`, after the pause that `Retry-After` names; `outcome_unknown`,
where the order may or may not be stored; a connection that broke, also in the middle of an answer; and an error 5xx of
a proxy, which has no problem in it. What it does not repeat: any other problem.
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid

SERVER = os.environ.get("ORDERSTREAM_SERVER", "http://127.0.0.1:8080")
USER_ID = os.environ.get("USER_ID", "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33")
ATTEMPTS = 6


class Refused(Exception):
    """The service refused the request; repeating it would not help."""


def pause(attempt, answer):
    """The seconds until the next attempt: those of the answer, or a growing, random pause."""
    named = answer.headers.get("Retry-After") if answer is not None else None
    if named is not None and named.isdigit():
        return int(named)
    return min(0.1 * 2**attempt, 5.0) * random.uniform(0.5, 1.5)


def problem_of(error):
    """The problem in an answer. Where a proxy answered without one, the outcome of an error 5xx is unknown."""
    try:
        problem = json.loads(error.read())
    except (OSError, ValueError, http.client.HTTPException):
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        return problem
    return {"code": f"no problem in the answer {error.code}", "retryable": error.code >= 500}


def create_order(payload, key=None):
    """Creates an order and answers the status and the body of the answer."""
    key = key or str(uuid.uuid4())
    body = json.dumps({"user_id": USER_ID, "payload": payload}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    last = None
    for attempt in range(ATTEMPTS):
        if attempt > 0:
            time.sleep(pause(attempt - 1, last if isinstance(last, urllib.error.HTTPError) else None))
        request = urllib.request.Request(f"{SERVER}/orders", data=body, headers=headers, method="POST")
        try:
            # Longer than ACK_WAIT_TIMEOUT, so that the service ends the wait and not the client.
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            last, problem = error, problem_of(error)
            is_retryable = problem.get("retryable") or problem["code"] == "outcome_unknown"
            if not is_retryable:
                raise Refused(f"{problem['code']} ({error.code}): {problem.get('detail')}") from error
            print(f"attempt {attempt + 1}: {problem['code']}", file=sys.stderr)
        # An OSError is any failure of the network; ValueError and HTTPException, an answer that broke off.
        except (OSError, ValueError, http.client.HTTPException) as error:
            last = error
            print(f"attempt {attempt + 1}: {error}", file=sys.stderr)
    raise SystemExit(f"no answer after {ATTEMPTS} attempts; the key is {key}: {last}")


def main():
    payload = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {"id": "A-1", "amount": "12.50"}
    try:
        status, answer = create_order(payload)
    except Refused as refusal:
        raise SystemExit(f"refused: {refusal}") from None
    # 201 also covers an order that was processed and failed: see `processing`. 202: stored, and still pending.
    print(status, answer["order_id"], answer.get("processing", answer["status"]))


if __name__ == "__main__":
    main()
