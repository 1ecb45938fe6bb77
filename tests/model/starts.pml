/* Transactional() and a message that the broker flags as redelivered: note that it starts - COMMIT -
   BEGIN - look and lock - body - COMMIT over the note. A start that did not end by itself is a death,
   and after MOST of them the key is exhausted.
   Checked: the effect is committed once; no death is counted that was none; whatever dies, in the end
   the message is answered; and with POISON, a body that kills its worker each time, it is stopped.
   Compiled with -D<name of a breakage>, one of these must fail; see test_protocol.py. */

#include "broker.pml"

#define MOST 2
#define ATTEMPTS 9

mtype { none, running, failed, succeeded, exhausted };
mtype state = none;
byte claim;             /* of the last start note */
bool live;              /* its time of grace has not run out */
byte deaths;            /* as the record counts them */
bool locked;            /* the key's advisory lock */
bool between[ATTEMPTS]; /* outside: it has noted its start, and does not hold the lock yet */
byte died;              /* outside: attempts with a note that were killed */
bool flagged;           /* the message was here before */
byte effects;           /* committed */
byte raises = RAISES;
bool answered, parked;

#define OWN (me != 0 && claim == me && state == running)
#ifdef COUNTS_NO_DEATH
#define FOUND 0
#else
#define FOUND (state == running)
#endif

active [WORKERS] proctype worker() {
    byte tag, me;
    bool holds;
end_idle:
    receive();
    me = 0;
    if
    :: flagged -> goto note
    :: else -> goto begin
    fi;
note:
    may_die();
    atomic {
        if
        :: state == succeeded -> goto answer
        :: state == exhausted -> goto stop
#ifndef HAS_NO_GRACE
        :: state == running && live -> goto busy
#endif
        :: locked && state != succeeded && state != exhausted -> goto busy
        :: else ->
            deaths = deaths + FOUND;
            assert(deaths <= died);
            if
            :: deaths >= MOST -> state = exhausted
            :: else ->
                claim = claim % (ATTEMPTS - 1) + 1;  /* as good as new after so many */
                me = claim;
                state = running;
                live = true;
                between[me] = true
            fi
        fi
    };
    if
    :: state == exhausted && me == 0 -> goto stop
    :: else
    fi;
begin:
    may_die();
    atomic {
        if
        :: state == succeeded -> goto answer
        :: state == exhausted -> goto stop
        :: locked && state != succeeded && state != exhausted -> goto busy
        :: !locked && state == running && !OWN -> between[me] = false; me = 0; goto note
        :: else -> locked = true; holds = true; between[me] = false
        fi
    };
#ifdef POISON
    atomic { open[tag] = false; waiting[tag] = true; goto dead };
#endif
    may_die();
    if
    :: atomic { raises > 0 -> raises--; locked = false; holds = false;
#ifndef LEAVES_ITS_NOTE
           if
           :: OWN -> state = failed
           :: else
           fi
#endif
       };
       goto busy
    :: true
    fi;
    atomic {
        locked = false; holds = false;
        if
        :: OWN || state == none || state == failed ->
            state = succeeded; effects++; assert(effects <= 1)
        :: else -> me = 0; goto begin
        fi
    };
answer:
    between[me] = false;
    may_die();
    answered = true;
    acknowledge();
    goto end_idle;

stop:  /* it is parked until somebody allows it again */
    between[me] = false;
    may_die();
    parked = true;
    acknowledge();
    goto end_idle;

busy:
    between[me] = false;
    publish();
    may_die();
    acknowledge();
    goto end_idle;

dead:
    atomic {
        flagged = true;
        between[me] = false;
        if
        :: OWN -> died++
        :: else
        fi;
        if
        :: holds -> locked = false; holds = false
        :: else
        fi
    };
    goto end_idle
}

active proctype clock() {
end_wait:
    do
    :: atomic { state == running && live && !between[claim] -> live = false }
    od
}

init { waiting[0] = true }

ltl nothing_is_lost {
#ifdef POISON
    <> [] (parked && state == exhausted && effects == 0 && NOTHING_WAITS)
#else
    <> [] (answered && state == succeeded && effects == 1 && NOTHING_WAITS)
#endif
}
