/* Leased(marks_effect=True): claim - COMMIT - body - settle by the token.
   ON_DOUBT is HOLD, where an operator resolves what is in doubt; RETRY, where the effect is repeated
   while the provider knows its key; or ASK, where the provider tells, and takes its time for an effect.
   Checked: the effect happens at most once, as the provider counts; and whatever dies, in the end
   the message is answered with a success and nothing waits any more. Compiled with -D<name of a
   breakage>, one of the two must fail; see test_protocol.py. */

#include "broker.pml"

#define HOLD 0
#define RETRY 1
#define ASK 2
#ifndef ON_DOUBT
#define ON_DOUBT HOLD
#endif

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
#if ON_DOUBT == RETRY
bool repeatable;        /* repeat_until: the provider's window, less one lease */
bool known;             /* outside: the provider knows the key */
#define HAS_HAPPENED (effects > 0)
#define NOBODY_ACTS \
    (!(acts[1] || acts[2] || acts[3] || acts[4] || acts[5] || acts[6] || acts[7] || acts[8]))
#else
#define repeatable false
#define HAS_HAPPENED acted[claim]
#endif
#if ON_DOUBT == ASK
byte sent;              /* outside: the attempt whose effect the provider works on */
#define BUSY_OUTSIDE (sent != 0)
#else
#define BUSY_OUTSIDE false
#endif
byte raises = RAISES;
byte lapses = LAPSES;   /* leases that run out though their process lives */
byte forgets = FORGETS; /* windows of the provider that close */
byte gives_up = GIVES_UP; /* messages that are deferred for too long */
byte releases = RELEASES; /* claims that an operator takes from the dead */
byte allows = ALLOWS;   /* times that somebody allows it again */
byte purges = PURGES;   /* records that are forgotten */
#if PURGES
bool purged;
bool at_work[WORKERS];  /* somebody has the message, though it may be acknowledged by another */
#endif
bool answered;

/* How often the effect is meant to happen: once more whenever it is allowed again. */
#define INTENDED (1 + ALLOWS - allows)

#define HELD (state == running && claim == me)

#ifdef SETTLES_WITHOUT_TOKEN
#define MAY_SETTLE (state == running)
#else
#define MAY_SETTLE HELD
#endif

/* The other side. */
inline act() {
#if ON_DOUBT == RETRY
    if
#ifndef NEW_PROVIDER_KEY
    :: known
#endif
    :: !known -> effects++
#ifdef NEW_PROVIDER_KEY
    :: known -> effects++
#endif
    fi;
    known = true;
    acted[me] = true;
    assert(effects <= INTENDED)
#elif ON_DOUBT == ASK
    sent = me
#else
    effects++; acted[me] = true; assert(effects <= INTENDED)
#endif
}

/* Let the message come again: a copy before the acknowledgement. Deferred for too long it is kept,
   and the sweeper publishes it. */
inline defer() {
#if GIVES_UP
    if
    :: atomic { gives_up > 0 && !publishing -> gives_up--;
#ifndef GIVES_UP_UNKEPT
           parked = true
#endif
       };
       may_die()
    :: publish(); may_die()
    fi;
    acknowledge()
#elif defined(ACKNOWLEDGES_FIRST)
    acknowledge(); may_die(); publish()
#else
#ifndef DROPS_WHAT_IS_BUSY
    publish(); may_die();
#endif
    acknowledge()
#endif
}

/* By whoever may ask. */
#ifdef HURRIED_OPERATOR
#define GONE true
#elif ON_DOUBT == RETRY
#define GONE NOBODY_ACTS
#else
#define GONE (!acts[claim])
#endif
#if ON_DOUBT == ASK && !defined(ASKS_TOO_EARLY)
#define MAY_ASK (GONE && !live)
#else
#define MAY_ASK GONE
#endif

inline resolve() {
    if
    :: HAS_HAPPENED -> state = succeeded
    :: else -> state = failed; begun = false
    fi
}

active [WORKERS] proctype worker() {
    byte tag, me;
    bool again;  /* an effect that may have happened before */
idle:
#if PURGES
    at_work[_pid % WORKERS] = false;
#endif
end_idle:
#if PURGES
    atomic { receive(); at_work[_pid % WORKERS] = true };
#else
    receive();
#endif
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
        :: state == running && !live && begun && !repeatable -> state = in_doubt; goto doubt
        :: state == failed && begun && !repeatable -> state = in_doubt; goto doubt
#endif
        :: else ->
            claim++;
            assert(claim < ATTEMPTS);
            me = claim;
            acts[me] = true;
            state = running;
            again = begun;
#if ON_DOUBT == RETRY
            if
            :: !again -> repeatable = true
            :: else
            fi;
#endif
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
    atomic { act() }
    may_die();
    if
    :: atomic { raises > 0 -> raises-- };  /* a timeout is not a "no" */
#ifdef ERROR_MEANS_NO
        goto no_effect
#elif ON_DOUBT == RETRY
        again = true; goto no_effect
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
    :: !BUSY_OUTSIDE
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
    goto idle;

no_effect:  /* it may be claimed again, and Celery retries it */
    atomic {
        acts[me] = false;
        if
        :: MAY_SETTLE -> state = failed; begun = begun && again
        :: state == in_doubt && claim == me && !again -> state = failed; begun = false
        :: else
        fi
    };
    defer();
    goto idle;

doubt:
    may_die();
#if ON_DOUBT == ASK
    if
    :: atomic { state == in_doubt && MAY_ASK -> resolve() }; goto look
    :: atomic { state == in_doubt && !MAY_ASK -> goto busy }
    :: true  /* the provider cannot tell, or somebody was faster */
    fi;
#endif
    atomic {
        !publishing ->  /* the row is locked until its deletion is committed */
            if
            :: state == in_doubt -> parked = true
            :: else -> goto look  /* resolved since */
            fi
    }
    may_die();
    acknowledge();
    goto idle;

lost:
    acts[me] = false;
busy:
    defer();
    goto idle;

dead:
    acts[me] = false;
    goto idle
}

/* The database's clock. A lease that nobody renews runs out, and is renewed again where its
   heartbeat comes late and nobody was faster. */
active proctype clock() {
end_wait:
    do
    :: atomic { state == running && live && !acts[claim] && !BUSY_OUTSIDE -> live = false }
    :: atomic { state == running && live && lapses > 0 && !BUSY_OUTSIDE -> lapses--; live = false }
    :: atomic { state == running && !live && acts[claim] -> live = true }
#if ON_DOUBT == ASK
    :: atomic { state == in_doubt && live && !BUSY_OUTSIDE -> live = false }
#endif
    od
}

#if ON_DOUBT == RETRY
/* It forgets the key later than we count on it, by a lease: who was let repeat it has done so by
   then, or died. One that was stopped for longer than its lease may still act: see README, Limits. */
active proctype provider() {
end_wait:
    do
#ifdef WINDOW_SLIDES
    :: atomic { known && NOBODY_ACTS && forgets > 0 -> forgets--; known = false }
#else
    :: atomic { repeatable && forgets > 0 -> forgets--; repeatable = false }
#endif
#ifdef FORGETS_THE_LEASE
    :: atomic { known && !repeatable -> known = false }
#else
    :: atomic { known && !repeatable && NOBODY_ACTS -> known = false }
#endif
    od
}
#endif

#if ON_DOUBT == ASK
/* It works on an effect for no longer than a lease. */
active proctype provider() {
end_wait:
    do
    :: atomic {
        sent != 0 -> effects++; acted[sent] = true; sent = 0; assert(effects <= 1)
       }
    od
}
#endif

/* Looks at the other side, and waits until the process is gone that may still act: see README,
   Limits. With HURRIED_OPERATOR it does not wait. With ASK this is the sweeper. */
active proctype operator() {
end_wait:
    do
    :: atomic { state == in_doubt && MAY_ASK -> resolve() }
    od
}

/* Makes silent ends visible, and publishes what waits for nothing any more, before the deletion is
   committed. Whoever resolves publishes too, and may die before: the sweeper is all that counts. */
active proctype sweeper() {
end_wait:
    do
    :: atomic { state == running && !live && begun && !repeatable -> state = in_doubt }
    :: atomic { state == failed && begun && !repeatable -> state = in_doubt }
    :: atomic { parked && state != in_doubt && !(state == running && live) -> publishing = true };
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

#if RELEASES
/* Takes a claim away whose lease has run out; its new token is nobody's. */
active proctype releaser() {
    byte nobody = ATTEMPTS;
end_wait:
    do
#ifdef RELEASES_TO_BE_REPEATED
    :: atomic { releases > 0 && state == running && !live ->
#else
    :: atomic { releases > 0 && state == running && !live && begun && !repeatable ->
           releases--; state = in_doubt }
    :: atomic { releases > 0 && state == running && !live && !(begun && !repeatable) ->
#endif
           releases--; claim++; assert(claim < ATTEMPTS);
#if defined(RELEASES_TO_BE_REPEATED) || defined(FORGETS_AT_A_RELEASE)
           begun = false;
#endif
           state = failed }
    od
}
#endif

#if ALLOWS
/* Somebody wants the effect once more: reopens the record, and sends a message. */
active proctype reopener() {
end_wait:
    do
    :: atomic { allows > 0 && state == succeeded && !publishing ->
           allows--;
           answered = false;
#ifndef KEEPS_THE_BEGINNING
           begun = false;
#endif
           state = failed };
       publish()
    od
}
#endif

#if PURGES
/* Retention is longer than the longest time in which the message can come back. */
active proctype purge() {
end_wait:
    do
#ifdef FORGETS_TOO_EARLY
    :: atomic { purges > 0 && state == succeeded ->
#elif defined(PURGES_WHAT_RUNS)
    :: atomic { purges > 0 && state == running && !live ->
#else
    :: atomic { purges > 0 && state == succeeded && NOTHING_WAITS && !parked && !at_work[0] && !at_work[1] ->
#endif
           purges--; state = none; begun = false; purged = true }
    od
}
#endif

init { waiting[0] = true }

#if PURGES
#define DONE (state == succeeded || (purged && state == none))
#else
#define DONE (state == succeeded)
#endif

ltl nothing_is_lost {
    <> [] (answered && DONE && effects == INTENDED && !parked && NOTHING_WAITS)
}
