"""A stateless model checker over the real code and a real PostgreSQL.

Deliveries, operators and the sweeper are actors: threads, each with its own Django connection. An
actor stops before every message that it sends to the server (BEGIN, each statement, COMMIT) and
before each outside effect, and only one is let go at a time, so that a schedule, a list of actors,
says all that happened. The explorer goes through all schedules of a situation depth first, each
with a new key, and asks an oracle outside of our code about each: rows that the bodies wrote,
effects that they had, what each delivery was answered.

- A statement that waits for a lock is seen by `pg_blocking_pids`; then others go on.
- Faults are choices like any other: an actor dies, or its connection is cut and it lives, before
  a message arrives or after the server has done what it says.
- The clock of the database is one too: a lease runs out by an UPDATE of `lease_expires_at`, at any
  point. This differs from time in one thing: it writes the row, and waits for who has locked it.
- Where there are too many schedules, they are limited to so many preemptions: switches away from an
  actor that could have gone on. (Musuvathi and Qadeer, "Iterative context bounding for systematic
  testing of multithreaded programs", PLDI 2007: most faults need two.) Also what touches nothing
  that another could see is then no point of its own: see `actors.is_local`.

`PREEMPTIONS=3 make test ARGS="tests/interleavings"` raises the limit of the limited ones to 3. A
schedule that breaks a promise is printed as a test that repeats it alone.

What it does not try: a fault of an operator, of the sweeper or of one of three deliveries; more
than one preemption beside the death of a leased delivery, or any beside its lost connection; a
server that has not noticed yet that a connection is lost (`tests/faults` does), and what happens
inside of one statement.
"""
