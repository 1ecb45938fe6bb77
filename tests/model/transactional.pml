/* Transactional(): BEGIN - look and lock - body - insert the record - COMMIT.
   Checked: the effect is committed once, together with the record; and whatever dies, in the end
   the message is answered with the success. Locks that exclude nobody (NO_LOCKS) change nothing:
   the lock saves work, the unique key keeps the promise. */

#include "broker.pml"

bool record;            /* succeeded, and committed */
bool locked;            /* the key's advisory lock */
bool committing;        /* a backend that was sent COMMIT, and has not told yet */
byte effects;           /* committed, counted apart from the record */
byte raises = RAISES;
byte silent = SILENT;   /* COMMITs that are not answered */
bool answered;

#ifdef NO_LOCKS
#define LOCK_IS_FREE true
#else
#define LOCK_IS_FREE (!locked)
#endif

/* One message: INSERT; COMMIT. A violation of the unique key rolls back. */
inline commit() {
    if
#ifndef TAKES_THE_LOCK_FOR_TRUTH
    :: record -> skip
    :: else -> record = true; effects++; assert(effects <= 1)
#else
    :: true -> record = true; effects++; assert(effects <= 1)
#endif
    fi
}

inline defer() {
#ifndef DROPS_WHAT_IS_BUSY
    publish(); may_die();
#endif
    acknowledge()
}

active [WORKERS] proctype worker() {
    byte tag;
    bool holds;
end_idle:
    receive();
#ifdef ACKNOWLEDGES_EARLY
    acknowledge();
#endif
begin:
    may_die();
    /* Two statements: the lock, then the look. */
    atomic {
        holds = LOCK_IS_FREE;
        if
        :: holds -> locked = true
        :: else
        fi
    }
    if
    :: atomic { record -> if :: holds -> locked = false :: else fi; holds = false }; goto answer
    :: !record && holds
    :: !record && !holds -> goto busy
    fi;
    may_die();
    if
    :: atomic { raises > 0 -> raises-- }; goto failed
    :: true
    fi;
    may_die();
    atomic {  /* the last message */
        if
        :: silent > 0 -> silent--; committing = true; goto unknown  /* and the lock stays held */
        :: true -> commit(); locked = false; holds = false
        fi
    }
answer:
    may_die();
    answered = true;
    acknowledge();
    goto end_idle;

unknown:
    /* The line is cut, and the backend goes on: absent is no proof, a free lock is one. */
    holds = false;
#ifdef ABSENT_IS_PROOF
    if
    :: record -> goto answer
    :: else -> acknowledge(); goto end_idle  /* "it failed" */
    fi;
#else
    if
    :: atomic { record -> goto answer }
    :: atomic { !record && LOCK_IS_FREE && !committing -> goto begin }
    :: !record -> goto busy
    fi;
#endif

failed:
    atomic { locked = false; holds = false };
busy:
    defer();
    goto end_idle;

dead:
    atomic { if :: holds -> locked = false; holds = false :: else fi };
    goto end_idle
}

/* A backend whose client is gone: it ends by itself, one way or the other. */
active proctype backend() {
end_wait:
    do
    :: atomic { committing -> commit(); committing = false; locked = false }
    :: atomic { committing -> committing = false; locked = false }
    od
}

init { waiting[0] = true }

ltl nothing_is_lost {
    <> [] (answered && record && effects == 1 && NOTHING_WAITS)
}
