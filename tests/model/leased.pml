/* Leased(on_doubt=OnDoubt.HOLD, marks_effect=True): claim - COMMIT - body - settle by the token.
   Checked: the effect happens at most once; and whatever dies, in the end the message is answered
   with a success and nothing waits any more. Compiled with -D<name of a breakage>, one of the two
   must fail; see test_protocol.py. */

#include "broker.pml"

#define ATTEMPTS 9

mtype = { none, running, succeeded, failed, in_doubt };
mtype state = none;
byte claim;             /* the fencing token of the last claim: its number */
bool begun, live;       /* effect_begun_at, and a lease that has not run out */
bool parked;            /* one row for this message */
bool publishing;        /* a transaction is open that deletes it */
bool acts[ATTEMPTS];    /* outside: the attempt's process may still act */
bool acted[ATTEMPTS];   /* outside: its effect has happened */
byte effects;           /* outside: counted where nothing of ours can reach */
byte raises = RAISES;
byte lapses = LAPSES;   /* leases that run out though their process lives */
bool answered;

#define HELD (state == running && claim == me)

#ifdef SETTLES_WITHOUT_TOKEN
#define MAY_SETTLE (state == running)
#else
#define MAY_SETTLE HELD
#endif

/* Let the message come again: a copy before the acknowledgement. */
inline defer() {
#ifdef ACKNOWLEDGES_FIRST
    acknowledge(); may_die(); publish()
#else
#ifndef DROPS_WHAT_IS_BUSY
    publish(); may_die();
#endif
    acknowledge()
#endif
}

active [WORKERS] proctype worker() {
    byte tag, me;
end_idle:
    receive();
    me = 0;
#ifdef ACKNOWLEDGES_EARLY
    acknowledge();
#endif
look:
    may_die();
    atomic {
        if
        :: state == succeeded -> goto answer
        :: state == running && live -> goto busy
        :: state == in_doubt -> goto doubt
#ifndef REPEATS_BLINDLY
        :: state == running && !live && begun -> state = in_doubt; goto doubt
#endif
        :: else ->
            claim++;
            assert(claim < ATTEMPTS);
            me = claim;
            acts[me] = true;
            state = running;
            begun = false;
            live = true
        fi
    }
    may_die();
    if
    :: atomic { raises > 0 -> raises-- }; goto no_effect
    :: true
    fi;
#ifndef FORGETS_TO_MARK
    atomic {
        if
#ifdef MARKS_WITHOUT_LEASE
        :: true -> begun = true
#else
        :: HELD && live -> begun = true
        :: else -> goto lost
#endif
        fi
    }
    may_die();
#endif
    atomic { effects++; acted[me] = true; assert(effects <= 1) }
    may_die();
    if
    :: atomic { raises > 0 -> raises-- };  /* a timeout is not a "no" */
#ifdef ERROR_MEANS_NO
        goto no_effect
#else
        atomic {
            acts[me] = false;
            if
            :: HELD -> state = in_doubt
            :: else -> goto lost
            fi
        };
        goto doubt
#endif
    :: true
    fi;
    atomic {
        acts[me] = false;
        if
        :: MAY_SETTLE -> state = succeeded
        :: state == in_doubt && claim == me -> state = succeeded  /* its own doubt: it knows */
        :: else -> goto lost
        fi
    }
answer:
    may_die();
    answered = true;
    acknowledge();
    goto end_idle;

no_effect:  /* it may be claimed again, and Celery retries it */
    atomic {
        acts[me] = false;
        if
        :: MAY_SETTLE -> state = failed
        :: state == in_doubt && claim == me -> state = failed
        :: else
        fi
    };
    defer();
    goto end_idle;

doubt:
    may_die();
    atomic {
        !publishing ->  /* the row is locked until its deletion is committed */
            if
            :: state == in_doubt -> parked = true
            :: else -> goto look  /* resolved since */
            fi
    }
    may_die();
    acknowledge();
    goto end_idle;

lost:
    acts[me] = false;
busy:
    defer();
    goto end_idle;

dead:
    acts[me] = false;
    goto end_idle
}

/* The database's clock. A lease that nobody renews runs out. */
active proctype clock() {
end_wait:
    do
    :: atomic { state == running && live && !acts[claim] -> live = false }
    :: atomic { state == running && live && lapses > 0 -> lapses--; live = false }
    od
}

/* Asks the other side, and waits until the process is gone that may still act: see README, Limits.
   With HURRIED_OPERATOR it does not wait. */
active proctype operator() {
end_wait:
    do
    :: atomic {
#ifdef HURRIED_OPERATOR
        state == in_doubt ->
#else
        state == in_doubt && !acts[claim] ->
#endif
            if
            :: acted[claim] -> state = succeeded
            :: else -> state = failed; begun = false
            fi
       }
    od
}

/* Makes silent ends visible, and publishes what waits for nothing any more, before the deletion is
   committed. Whoever resolves publishes too, and may die before: the sweeper is all that counts. */
active proctype sweeper() {
end_wait:
    do
    :: atomic { state == running && !live && begun -> state = in_doubt }
    :: atomic { parked && state != in_doubt -> publishing = true };
#ifdef DELETES_FIRST
        atomic { parked = false; publishing = false };
        if
        :: atomic { kills > 0 -> kills-- }
        :: publish()
        fi
#else
#ifdef DELETES_AFTERWARDS
        publishing = false;
#endif
        publish();
        atomic {
            if
            :: kills > 0 -> kills--  /* killed in between: it will be published once more */
            :: true -> parked = false
            fi;
            publishing = false
        }
#endif
    od
}

init { waiting[0] = true }

ltl nothing_is_lost {
    <> [] (answered && state == succeeded && effects == 1 && !parked && NOTHING_WAITS)
}
