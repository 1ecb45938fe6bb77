/* A broker that delivers at least once, as Redis does: all deliveries of one message share a tag,
   so that whatever ends one of them acknowledges the message for all.
   (kombu/transport/redis.py, QoS.ack)
   The budgets KILLS, REPEATS and so on bound what goes wrong; what mends itself has none. */

#define WORKERS 2
#define TAGS 6

bool waiting[TAGS];  /* in the queue */
bool open[TAGS];     /* delivered, and not acknowledged */
byte kills = KILLS;
byte repeats = REPEATS;
byte free_tag;

/* The same message under a tag of its own. */
inline publish() {
    atomic {
        free_tag = 0;
        do
        :: free_tag < TAGS && (waiting[free_tag] || open[free_tag]) -> free_tag++
        :: else -> break
        od;
        assert(free_tag < TAGS);
        waiting[free_tag] = true
    }
}

inline receive() {
    atomic {
        if
        :: waiting[0] -> tag = 0
        :: waiting[1] -> tag = 1
        :: waiting[2] -> tag = 2
        :: waiting[3] -> tag = 3
        :: waiting[4] -> tag = 4
        :: waiting[5] -> tag = 5
        fi;
        waiting[tag] = false;
        open[tag] = true
    }
}

inline acknowledge() { open[tag] = false }

/* SIGKILL: the broker hands out again what was not acknowledged. */
inline may_die() {
    atomic {
        if
        :: kills > 0 ->
            kills--;
            if
            :: open[tag] -> open[tag] = false; waiting[tag] = true
            :: else
            fi;
            goto dead
        :: true
        fi
    }
}

#define ANY(tags) (tags[0] || tags[1] || tags[2] || tags[3] || tags[4] || tags[5])
#define NOTHING_WAITS (!ANY(waiting) && !ANY(open))

/* A visibility timeout that is shorter than the task. */
active proctype visibility_timeout() {
    byte late;
end_wait:
    do
    :: atomic {
        repeats > 0 && ANY(open) ->
            if
            :: open[0] -> late = 0
            :: open[1] -> late = 1
            :: open[2] -> late = 2
            :: open[3] -> late = 3
            :: open[4] -> late = 4
            :: open[5] -> late = 5
            fi;
            repeats--;
            open[late] = false;
            waiting[late] = true
       }
    od
}

/* Time goes on where nothing else does: fairness says nothing of runs that end. */
active proctype time() {
    bool now;
    do
    :: now = true
    od
}
