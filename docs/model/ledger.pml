/*
 * The protocol between the ledger and those who write to it. README.md beside this file explains it; `make model` checks it.
 *
 * The statements of shared/src/ledgerq_shared/statements are inlines of the same names: each is one step, as its locks make
 * it. Everything else that happens (a process dies, an answer is lost, time passes) is a step of one of the processes below.
 *
 * A protection stands here as KEEP(name): true, unless this run takes just that one out to see what it is good for.
 */

#ifndef TASKS
#define TASKS 2 /* tasks in the ledger */
#endif
#ifndef DISTURBANCES
#define DISTURBANCES 1 /* faults, cancel_requests of people, retries by code: so many of any kind in one history */
#endif
#define NODES 2 /* worker nodes, one slot each */
#define ROWS 6 /* rows of `worker`, from 1: one for each life of a node that somebody still knows */
#define CLAIMS 7 /* numbers of claims, from 1: those that the ledger, a node's memory or a hand-back still knows */

/* States of a task; the last three are final. */
#define PENDING 1
#define RETRY 2
#define STARTED 3
#define SUCCESS 4
#define FAILURE 5
#define REVOKED 6
#define FINAL(what) ((what) >= SUCCESS)
/* A row of `worker`. */
#define FREE 0
#define LIVE 1
#define ENDED 2
/* A node: its slot's process runs; is dead; is cleared away; the parent is dead and the agent is not; all is dead. */
#define RUNS 0
#define DEAD 1
#define CLEARED 2
#define ORPHANED 3
#define DOWN 4
/* A flush's transaction, as PostgreSQL has it. */
#define NO_TX 0
#define SENT 1
#define COMMITTED 2
#define ABORTED 3

#define BIT(t) (1 << (t))
#define HAS(mask, t) (((mask) >> (t)) & 1)
#define WITHOUT(mask, other) ((mask) & (15 ^ (other)))

/* The protections that can be taken out; scripts/check_model.py reads this list. */
#define claim_must_list_the_task 1
#define hand_back_looks_at_the_list 2 /* seen with 2 tasks */
#define hand_back_revokes_what_is_cancelled 3 /* seen with 2 tasks */
#define recovery_revokes_what_is_cancelled 4 /* seen with 2 disturbances */
#define retry_revokes_what_is_cancelled 5 /* seen with 2 disturbances */
#define declare_dead_looks_again 6
#define reaper_waits_a_lease_after_an_outage 7
#define reaper_looks_at_claims_of_the_ended 8
#define unknown_is_not_taken_for_done 9
#define unknown_is_not_taken_for_failed 10
#define sweep_replaces_tickets 11
#define slot_begins_without_old_claims 12
#define slot_waits_until_it_is_cleared 13
#define agent_looks_before_it_takes_back 14
#define start_is_recorded_before_code_that_runs_once 15
#define what_began_and_runs_once_is_not_begun_again 16
#define cancel_ends_what_waits 17
#define retry_by_a_person_looks_at_the_state 18

/* ---- The ledger: `task` and the places where it stands; a claim is its list of tasks (0: there is no such row). */
byte state[TASKS];
byte ready[TASKS]; /* rows of `ready` */
byte held[TASKS]; /* rows of `held` */
bit cancelled[TASKS]; /* cancel_requested_at is set */
bit once[TASKS]; /* on_worker_lost = fail */
byte claim[CLAIMS];
byte claim_row[CLAIMS]; /* whose it is */
byte worker[ROWS];
bit lease[ROWS]; /* not over yet; whoever can renews it before the next tick */

/* ---- A node: what its slot and its agent know. The memory is that of one claim. */
byte node[NODES];
bit cut[NODES]; /* frozen, or cut off from PostgreSQL */
bit mute[NODES]; /* for its own reasons it has not renewed for a whole lease */
byte row[NODES]; /* its id in `worker` */
bit awake[NODES]; /* in a drain */
bit barren[NODES]; /* it claimed nothing, for it was declared dead: first it registers */
byte no[NODES]; /* claim in memory; 0: none */
byte no_row[NODES]; /* the row under which it was made */
byte waiting[NODES]; /* claimed and not begun */
byte running[NODES]; /* task + 1 whose code runs; after a death: what the slot table says */
bit beginning[NODES]; /* ... but its start has to be recorded before its code begins */
byte ended[NODES]; /* legs that have ended and are not recorded */
byte unbegun[NODES]; /* ... which were cancelled before they began */
byte was_retry[NODES]; /* legs that were claimed in RETRY */
byte started[NODES]; /* legs that the ledger has as STARTED, as far as the slot knows */
byte outside[NODES]; /* legs that the agent has ended from outside */
byte killing[NODES]; /* task + 1 whose process the agent is about to kill */
byte outcome[4]; /* by node and task: how its leg has ended */
byte returning[NODES]; /* tasks on their way back to the queue */
byte returning_no[NODES];
bit seen_dead[NODES]; /* the agent has seen that the slot's process is dead, and is about to take back */
bit word[NODES]; /* the parent's word that a process has died lies in the pipe */

/* A flush: its transaction, and whether its answer was lost. */
byte tx[NODES];
bit unknown[NODES];
byte tx_begun[NODES]; /* task + 1 whose start it records */
bit tx_accepted[NODES]; /* ... and whether the ledger took it */
byte tx_ended[NODES]; /* legs whose end it records */
bit tx_wants[NODES]; /* it also claims */
byte tx_row[NODES]; /* the row under which it claims; 0: that worker was declared dead, it claims nothing */
byte tx_no[NODES]; /* what it has claimed */
byte tx_got[NODES];
byte tx_retry[NODES];

/* ---- All others. */
bit away; /* PostgreSQL is away */
bit reachable = 1; /* it has answered for a whole lease, as the reaper knows */
byte victim; /* row that the reaper looks at */
bit renewed; /* ... its lease is not the one any more that the reaper saw */
bit declared; /* ... it is dead */
byte tickets = 1;
byte disturbances; /* that may still come */
bit harmed; /* a node has been: for the nodes are alike, the first is always node 0 */
bit ran[TASKS]; /* code that must not begin twice has begun (for the check alone) */

byte i, j, v, is_valid, got, maybe, last; /* within one step; 0 between steps */

#ifdef SIMULATION /* random histories, printed for tests/contract/test_model.py */
#define KEEP(name) true
#define d_step /* the simulator lets others in between an atomic guard and its d_step */
int clock, attempt[TASKS], serial[CLAIMS];
#define SAY(t, what, actor, with_start, c) \
    if :: with_start -> attempt[t]++ :: else fi; \
    printf("EVENT %d %d %d %d %d %d\n", t, what, actor, attempt[t], with_start, serial[c])
#define NUMBER(c) clock++; serial[c] = clock
#else
byte without; /* the protection that this run takes out; 0: none */
#define KEEP(name) (without != name)
#define SAY(t, what, actor, with_start, c) skip
#define NUMBER(c) skip
#endif
/* What an event says beside a state of the task. */
#define SUBMITTED 10
#define RESUBMITTED 11
#define CANCEL_REQUESTED 12
#define REFUSED 13
#define RECOVERED 14
/* Who did it, where it is no node. */
#define PERSON 8
#define MAINTENANCE 9

#define WAITS(t) (ready[t] || held[t])
#define CAN_WRITE(w) (!cut[w] && !away)
#define BEFORE(w, t) (HAS(started[w], t) -> STARTED : (HAS(was_retry[w], t) -> RETRY : PENDING))
#define LISTED(w, t) (HAS(claim[no[w]], t) || !KEEP(claim_must_list_the_task))
/* The leg was begun, and the ledger has not heard of it. */
#define HAS_BEGUN_UNSEEN(w, t) (state[t] != STARTED && !HAS(unbegun[w], t))
/* A leg is superseded, fairly: its node was declared dead, or its task was ended from outside. */
#define SUPERSEDED(w, t) (worker[no_row[w]] != LIVE || HAS(outside[w], t))

/* ======================================================================== what must hold after every step */

inline check() {
    for (i : 0 .. TASKS - 1) {
        v = ready[i] + held[i];
        for (j : 1 .. CLAIMS - 1) { v = v + HAS(claim[j], i) }
        /* Everything unfinished stands in exactly one place, nothing finished in any. */
        assert(v == (FINAL(state[i]) -> 0 : 1));
        assert(state[i] != STARTED || !WAITS(i));
        /* Cancel is a fact: what somebody asked to end never waits for another run. */
        assert(!(cancelled[i] && WAITS(i)));
    }
    for (j : 1 .. CLAIMS - 1) {
        if :: !claim[j] -> claim_row[j] = 0 :: else fi
    }
    /* Rows that nobody knows any more are forgotten. */
    for (i : 1 .. ROWS - 1) {
        if
        :: worker[i] == ENDED && victim != i ->
            v = 0;
            for (j : 1 .. CLAIMS - 1) { v = v || (claim[j] && claim_row[j] == i) }
            for (j : 0 .. NODES - 1) { v = v || row[j] == i || no_row[j] == i || tx_row[j] == i }
            if :: !v -> worker[i] = FREE; lease[i] = 0 :: else fi
        :: else
        fi
    }
    i = 0; j = 0; v = 0
}

inline end(t, what) {
    assert(!FINAL(state[t])); /* recorded at most once */
    state[t] = what;
    cancelled[t] = 0
}

/* ======================================================================== statements */

inline submit_tasks(t, later) { /* sent again under the same id it changes nothing, so it is one step */
    state[t] = PENDING;
    if :: later -> held[t] = 1 :: else -> ready[t] = 1 fi;
    SAY(t, SUBMITTED, PERSON, 0, 0)
}

inline promote_due(t) { held[t] = held[t] - 1; ready[t] = ready[t] + 1 }

inline expire(t) { /* so do take_over and give_way, for a unique key */
    ready[t] = 0; held[t] = 0; end(t, REVOKED); SAY(t, REVOKED, MAINTENANCE, 0, 0)
}

inline revoke_waiting(t, actor) {
    if :: KEEP(cancel_ends_what_waits) -> ready[t] = 0; held[t] = 0 :: else fi;
    end(t, REVOKED); SAY(t, REVOKED, actor, 0, 0)
}

inline request_cancel(t) {
    if :: !cancelled[t] -> SAY(t, CANCEL_REQUESTED, PERSON, 0, 0) :: else fi;
    cancelled[t] = 1
}

inline resubmit(t) {
    state[t] = PENDING; ready[t] = ready[t] + 1; ran[t] = 0; SAY(t, RESUBMITTED, PERSON, 0, 0)
}

inline claim_tasks(w) { /* those of `got`, under the smallest number that nobody knows */
    for (i : 1 .. CLAIMS - 1) {
        v = claim[i] > 0;
        for (j : 0 .. NODES - 1) { v = v || no[j] == i || returning_no[j] == i || tx_no[j] == i }
        if :: !v && !tx_no[w] -> tx_no[w] = i :: else fi
    }
    assert(tx_no[w]);
    claim[tx_no[w]] = got; claim_row[tx_no[w]] = tx_row[w]; tx_got[w] = got; NUMBER(tx_no[w]);
    for (i : 0 .. TASKS - 1) {
        if
        :: HAS(got, i) ->
            ready[i] = ready[i] - 1;
            if :: state[i] == RETRY -> tx_retry[w] = tx_retry[w] | BIT(i) :: else fi
        :: else
        fi
    }
}

inline refuse(w, t, c) { /* only what was superseded is ever refused */
    assert(node[w] != RUNS || SUPERSEDED(w, t));
    SAY(t, REFUSED, w, 0, c)
}

inline record_begun(w, t) {
    if
    :: LISTED(w, t) && state[t] == BEFORE(w, t) ->
        state[t] = STARTED; tx_accepted[w] = 1; SAY(t, STARTED, w, 1, no[w])
    :: else -> tx_accepted[w] = 0; refuse(w, t, no[w])
    fi
}

inline record_ended(w, t) {
    SAY(t, outcome[w * TASKS + t], w, HAS_BEGUN_UNSEEN(w, t), no[w]);
    end(t, outcome[w * TASKS + t])
}

inline record_next_leg(w, t) {
    SAY(t, RETRY, w, state[t] != STARTED, no[w]);
    state[t] = RETRY; ran[t] = 0;
    if
    :: cancelled[t] && KEEP(retry_revokes_what_is_cancelled) -> revoke_waiting(t, w)
    :: else -> held[t] = 1
    fi
}

inline record(w, t) { /* the end of one leg, whatever it is, and its way off the claim's list */
    if
    :: LISTED(w, t) && state[t] == BEFORE(w, t) ->
        claim[no[w]] = WITHOUT(claim[no[w]], BIT(t));
        if :: outcome[w * TASKS + t] == RETRY -> record_next_leg(w, t) :: else -> record_ended(w, t) fi
    :: else -> refuse(w, t, no[w])
    fi;
    outcome[w * TASKS + t] = 0
}

inline end_from_outside(w, t, what) { /* under the claim that the slot table names */
    if
    :: HAS(claim[no[w]], t) && !FINAL(state[t]) ->
        claim[no[w]] = WITHOUT(claim[no[w]], BIT(t));
        outside[w] = outside[w] | BIT(t);
        SAY(t, what, w, state[t] != STARTED, no[w]);
        end(t, what)
    :: else
    fi
}

inline hand_back(w) { /* what has not begun; what was cancelled meanwhile ends in the same transaction */
    for (i : 0 .. TASKS - 1) {
        if
        :: HAS(returning[w], i) && (HAS(claim[returning_no[w]], i) || !KEEP(hand_back_looks_at_the_list)) ->
            claim[returning_no[w]] = WITHOUT(claim[returning_no[w]], BIT(i));
            ready[i] = ready[i] + 1;
            if
            :: cancelled[i] && KEEP(hand_back_revokes_what_is_cancelled) -> revoke_waiting(i, w)
            :: else
            fi
        :: else
        fi
    }
}

/* Take back all claims under row r. `suspect`: task + 1 that ran, as far as that is known; `maybe`: who cannot know takes a
   task for begun; `last`: this death is one too many (how deaths are counted is not modelled: any may be the last). */
inline recover_claims(r, suspect, is_known) {
    for (j : 1 .. CLAIMS - 1) {
        if
        :: claim[j] && claim_row[j] == r ->
            for (i : 0 .. TASKS - 1) {
                is_valid = state[i] == STARTED || suspect == i + 1 || (!is_known && maybe);
                if
                :: !HAS(claim[j], i) || FINAL(state[i])
                :: else ->
                    if
                    :: cancelled[i] && KEEP(recovery_revokes_what_is_cancelled) ->
                        SAY(i, REVOKED, MAINTENANCE, is_valid && state[i] != STARTED, j); end(i, REVOKED)
                    :: else ->
                        if
                        :: is_valid && (last || (once[i] && KEEP(what_began_and_runs_once_is_not_begun_again))) ->
                            SAY(i, FAILURE, MAINTENANCE, state[i] != STARTED, j); end(i, FAILURE)
                        :: else ->
                            if
                            :: is_valid ->
                                SAY(i, RECOVERED, MAINTENANCE, state[i] != STARTED, j); state[i] = PENDING
                            :: else
                            fi;
                            ready[i] = ready[i] + 1
                        fi
                    fi
                fi
            }
            claim[j] = 0
        :: else
        fi
    }
    is_valid = 0; maybe = 0; last = 0
}

inline register_worker(w) {
    row[w] = 0;
    for (i : 1 .. ROWS - 1) {
        if :: worker[i] == FREE && !row[w] -> row[w] = i :: else fi
    }
    assert(row[w]);
    worker[row[w]] = LIVE; lease[row[w]] = 1; mute[w] = 0; barren[w] = 0
}

inline renew_lease(w) { /* no row to renew: it was declared dead, and registers anew */
    if
    :: worker[row[w]] == LIVE ->
        lease[row[w]] = 1; mute[w] = 0;
        if :: victim == row[w] -> renewed = 1 :: else fi
    :: else -> register_worker(w)
    fi
}

inline declare_dead(r) {
    if
    :: worker[r] == ENDED || !renewed || !KEEP(declare_dead_looks_again) ->
        /* Nobody who could renew in the last lease is declared dead. */
        for (i : 0 .. NODES - 1) {
            assert(row[i] != r || worker[r] == ENDED || node[i] >= ORPHANED || mute[i])
        }
        worker[r] = ENDED; lease[r] = 0; declared = 1
    :: else -> victim = 0
    fi;
    renewed = 0
}

/* ======================================================================== a node */

inline forget_leg(w) { /* the memory of a claim of which nothing is left */
    if
    :: !(waiting[w] || running[w] || ended[w]) ->
        no[w] = 0; no_row[w] = 0; was_retry[w] = 0; started[w] = 0; outside[w] = 0; unbegun[w] = 0
    :: else
    fi
}

inline forget_flush(w) {
    tx[w] = NO_TX; unknown[w] = 0; tx_begun[w] = 0; tx_accepted[w] = 0; tx_ended[w] = 0; tx_wants[w] = 0; tx_row[w] = 0;
    tx_no[w] = 0; tx_got[w] = 0; tx_retry[w] = 0
}

/* The slot's process is gone with its memory. What it has sent may yet be committed: that stays until it is decided. */
inline forget_process(w) {
    waiting[w] = 0; returning[w] = 0; returning_no[w] = 0; killing[w] = 0; awake[w] = 0; barren[w] = 0;
    if :: beginning[w] -> beginning[w] = 0; running[w] = 0 :: else fi;
    if
    :: tx[w] != SENT ->
        forget_flush(w);
        ended[w] = 0; no[w] = 0; no_row[w] = 0; was_retry[w] = 0; started[w] = 0; outside[w] = 0; unbegun[w] = 0;
        for (i : 0 .. TASKS - 1) { outcome[w * TASKS + i] = 0 }
    :: else
    fi
}

inline code_begins(w, t) {
    beginning[w] = 0;
    if
    :: worker[no_row[w]] == LIVE -> /* a zombie's code does not count, nor does what it records */
        assert(!FINAL(state[t])); /* what was cancelled, or has ended, does not begin */
        for (i : 0 .. NODES - 1) { /* no live task is started twice */
            assert(i == w || node[i] != RUNS || running[i] != t + 1 || beginning[i] || SUPERSEDED(i, t))
        }
    :: else
    fi;
    if :: once[t] && !SUPERSEDED(w, t) -> assert(!ran[t]); ran[t] = 1 :: else fi;
    i = 0
}

/* A flush is committed, and the slot knows it. */
inline learn(w) {
    ended[w] = WITHOUT(ended[w], tx_ended[w]);
    if
    :: tx_begun[w] ->
        started[w] = started[w] | BIT(tx_begun[w] - 1);
        if
        :: beginning[w] && running[w] == tx_begun[w] && tx_accepted[w] -> code_begins(w, running[w] - 1)
        :: beginning[w] && running[w] == tx_begun[w] && !tx_accepted[w] -> beginning[w] = 0; running[w] = 0
        :: else
        fi
    :: else
    fi;
    forget_leg(w);
    if
    :: tx_wants[w] ->
        no[w] = tx_no[w]; no_row[w] = (tx_no[w] -> tx_row[w] : 0); waiting[w] = tx_got[w]; was_retry[w] = tx_retry[w];
        awake[w] = tx_got[w] > 0;
        barren[w] = !tx_row[w] && worker[row[w]] != LIVE
    :: else
    fi;
    forget_flush(w)
}

proctype Node(byte w) {
    byte t;
end_node:
    do
    /* A ticket, or the drain that it has set off: record what has ended and claim, in one transaction. */
    :: atomic { node[w] == RUNS && (awake[w] || (tickets && !barren[w])) && tx[w] == NO_TX && CAN_WRITE(w) &&
            !waiting[w] && !running[w] ->
        d_step {
            if :: !awake[w] -> tickets--; awake[w] = 1 :: else fi;
            tx[w] = SENT; tx_ended[w] = ended[w]; tx_wants[w] = 1;
            if :: worker[row[w]] == LIVE -> tx_row[w] = row[w] :: else fi
        } }
    /* Begin one of those that wait. Whoever knows of a cancel does not. */
    :: atomic { node[w] == RUNS && waiting[w] && !running[w] ->
        if :: HAS(waiting[w], 0) -> t = 0 :: TASKS > 1 && HAS(waiting[w], TASKS - 1) -> t = TASKS - 1 fi;
        waiting[w] = WITHOUT(waiting[w], BIT(t));
        if
        :: cancelled[t] -> d_step { ended[w] = ended[w] | BIT(t); unbegun[w] = unbegun[w] | BIT(t); outcome[w * TASKS + t] = REVOKED }
        :: d_step { true -> running[w] = t + 1;
            if
            :: once[t] && KEEP(start_is_recorded_before_code_that_runs_once) -> beginning[w] = 1
            :: else -> code_begins(w, t)
            fi }
        fi;
        t = 0 }
    /* Record a start: before the code, or because it runs for long. Record ends while something runs. */
    :: atomic { node[w] == RUNS && running[w] && tx[w] == NO_TX && CAN_WRITE(w) && !HAS(started[w], running[w] - 1) ->
        d_step { tx[w] = SENT; tx_begun[w] = running[w] } }
    :: atomic { node[w] == RUNS && ended[w] && tx[w] == NO_TX && CAN_WRITE(w) && (running[w] || waiting[w]) ->
        d_step { tx[w] = SENT; tx_ended[w] = ended[w] } }
    /* The code ends. */
    :: atomic { node[w] == RUNS && running[w] && !beginning[w] ->
        t = running[w] - 1;
        if
        :: outcome[w * TASKS + t] = SUCCESS
        :: disturbances -> outcome[w * TASKS + t] = FAILURE
        :: cancelled[t] -> outcome[w * TASKS + t] = REVOKED
        :: disturbances -> d_step { outcome[w * TASKS + t] = RETRY; disturbances-- }
        fi;
        d_step { ended[w] = ended[w] | BIT(t); running[w] = 0; t = 0 } }
    /* What the slot learns of its flush. After a lost answer it asks PostgreSQL by the transaction's number. */
    :: atomic { node[w] == RUNS && tx[w] == COMMITTED && CAN_WRITE(w) && (!unknown[w] || KEEP(unknown_is_not_taken_for_failed)) ->
        d_step { learn(w) } }
    :: atomic { node[w] == RUNS && tx[w] == ABORTED && CAN_WRITE(w) && (!unknown[w] || KEEP(unknown_is_not_taken_for_done)) ->
        d_step { tx[w] = SENT; unknown[w] = 0; if :: tx_row[w] && worker[tx_row[w]] != LIVE -> tx_row[w] = 0 :: else fi } }
    :: atomic { node[w] == RUNS && unknown[w] && tx[w] == ABORTED && !KEEP(unknown_is_not_taken_for_done) -> d_step { learn(w) } }
    :: atomic { node[w] == RUNS && unknown[w] && tx[w] == COMMITTED && CAN_WRITE(w) && !KEEP(unknown_is_not_taken_for_failed) ->
        d_step { tx[w] = SENT; unknown[w] = 0; tx_no[w] = 0; tx_got[w] = 0; tx_retry[w] = 0 } }
    /* Hand back what waits behind long code; after an answer that was lost, once more. */
    :: atomic { node[w] == RUNS && (returning[w] || (running[w] && !beginning[w] && waiting[w])) && CAN_WRITE(w) ->
        d_step {
            if :: !returning[w] -> returning[w] = waiting[w]; returning_no[w] = no[w]; waiting[w] = 0 :: else fi;
            hand_back(w);
            check()
        };
        if
        :: d_step { returning[w] = 0; returning_no[w] = 0 }
        :: disturbances -> disturbances--
        fi }
    od
}

/* ======================================================================== its lease agent */

proctype Agent(byte w) {
    byte what;
end_agent:
    do
    :: atomic { node[w] <= CLEARED && CAN_WRITE(w) && (worker[row[w]] != LIVE || !lease[row[w]]) ->
        d_step { renew_lease(w); check() } }
    /* It looks whether the slot's process lives, and takes back what a dead one held: one step, for the slot waits. */
    :: atomic { node[w] == DEAD && !seen_dead[w] && !cut[w] && !KEEP(slot_waits_until_it_is_cleared) -> seen_dead[w] = 1 }
    :: atomic { word[w] && !KEEP(agent_looks_before_it_takes_back) -> d_step { word[w] = 0; seen_dead[w] = 1 } }
    :: atomic { ((node[w] == DEAD && KEEP(slot_waits_until_it_is_cleared)) || seen_dead[w]) && CAN_WRITE(w) ->
        if :: last = 0 :: last = 1 fi;
        d_step {
            recover_claims(row[w], running[w], true);
            seen_dead[w] = 0;
            if :: node[w] == DEAD -> node[w] = CLEARED; running[w] = 0 :: else fi;
            check()
        } }
    /* The slot's next process begins without what its predecessor's last commit may have claimed. */
    :: atomic { (node[w] == CLEARED || (node[w] == DEAD && !KEEP(slot_waits_until_it_is_cleared))) && tx[w] == NO_TX && CAN_WRITE(w) ->
        d_step {
            if :: KEEP(slot_begins_without_old_claims) -> recover_claims(row[w], 0, true) :: else fi;
            node[w] = RUNS; running[w] = 0;
            check()
        } }
    /* The parent is dead (or has stopped): the agent ends the worker and returns everything. */
    :: atomic { node[w] == ORPHANED && CAN_WRITE(w) ->
        if :: last = 0 :: last = 1 fi;
        d_step {
            worker[row[w]] = ENDED; lease[row[w]] = 0; /* end_worker */
            recover_claims(row[w], running[w], true);
            node[w] = DOWN; running[w] = 0;
            check()
        } }
    /* Whoever runs the node starts it again. */
    :: atomic { node[w] == DOWN && tx[w] == NO_TX && CAN_WRITE(w) ->
        d_step { register_worker(w); node[w] = RUNS; check() } }
    /* Terminate what was cancelled, or what exceeds its hard limit: record it, then kill the process if it still runs that. */
    :: atomic { node[w] == RUNS && running[w] && !beginning[w] && !killing[w] && CAN_WRITE(w) &&
                !HAS(outside[w], running[w] - 1) && (cancelled[running[w] - 1] || disturbances) ->
        if :: cancelled[running[w] - 1] -> what = REVOKED :: disturbances -> d_step { what = FAILURE; disturbances-- } fi;
        d_step { end_from_outside(w, running[w] - 1, what); killing[w] = running[w]; what = 0; check() } }
    :: atomic { killing[w] && !cut[w] ->
        d_step {
            if :: running[w] == killing[w] -> node[w] = DEAD; forget_process(w) :: else killing[w] = 0 fi
        } }
    od
}

/* ======================================================================== PostgreSQL, maintenance, people, time */

proctype Postgres() {
    byte n;
end_postgres:
    do
    :: atomic { !away && (tx[0] == SENT || tx[1] == SENT) ->
        if :: tx[0] == SENT -> n = 0 :: tx[1] == SENT -> n = 1 fi;
        if
        :: tx_row[n] && ready[0] -> got = 1
        :: tx_row[n] && ready[TASKS - 1] && TASKS > 1 -> got = 2
        :: tx_row[n] && ready[0] && ready[TASKS - 1] && TASKS > 1 -> got = 3
        :: !tx_row[n] || !(ready[0] || ready[TASKS - 1]) -> skip
        fi;
        d_step {
            if :: tx_begun[n] -> record_begun(n, tx_begun[n] - 1) :: else fi;
            for (i : 0 .. TASKS - 1) {
                if :: HAS(tx_ended[n], i) -> record(n, i) :: else fi
            }
            if :: got -> claim_tasks(n) :: else fi;
            got = 0;
            tx[n] = COMMITTED;
            if
            :: node[n] != RUNS -> forget_process(n)
            :: node[n] == RUNS && !cut[n] && !unknown[n] -> learn(n)
            :: else
            fi;
            n = 0;
            check()
        } }
    od
}

#define ANY_TASK(condition) (condition(0) || (TASKS > 1 && condition(TASKS - 1)))
#define CHOOSE_TASK(t, condition) if :: condition(0) -> t = 0 :: TASKS > 1 && condition(TASKS - 1) -> t = TASKS - 1 fi
#define ANY_ROW(condition) (condition(1) || condition(2) || condition(3) || condition(4) || condition(5))
#if SIMULATION == 2 /* people, and what they forget, would use up all disturbances */
#define MAY_EXPIRE(t) false
#else
#define MAY_EXPIRE(t) WAITS(t)
#endif
#define IS_HELD(t) held[t]
#define IS_OPEN(t) (!FINAL(state[t]) && !cancelled[t])
#define MAY_RUN_AGAIN(t) (state[t] == FAILURE || state[t] == REVOKED || !KEEP(retry_by_a_person_looks_at_the_state))
#define HAS_CLAIMS(r) ((claim[1] && claim_row[1] == r) || (claim[2] && claim_row[2] == r) || (claim[3] && claim_row[3] == r) \
    || (claim[4] && claim_row[4] == r) || (claim[5] && claim_row[5] == r) || (claim[6] && claim_row[6] == r))
#define IS_LOST(r) ((worker[r] == LIVE && lease[r] == 0) \
    || (worker[r] == ENDED && HAS_CLAIMS(r) && KEEP(reaper_looks_at_claims_of_the_ended)))

proctype Maintenance() {
    byte t;
end_maintenance:
    do
    :: atomic { !away && ANY_TASK(IS_HELD) -> CHOOSE_TASK(t, IS_HELD); d_step { promote_due(t); t = 0; check() } }
    :: atomic { !away && disturbances && ANY_TASK(MAY_EXPIRE) ->
        CHOOSE_TASK(t, MAY_EXPIRE); d_step { disturbances--; expire(t); t = 0; check() } }
    :: atomic { !away && !tickets && (ready[0] || ready[TASKS - 1]) && KEEP(sweep_replaces_tickets) -> tickets = 1 }
    /* The reaper: look, declare dead, take back; each a transaction of its own. */
    :: atomic { !away && !victim && (reachable || !KEEP(reaper_waits_a_lease_after_an_outage)) &&
        ANY_ROW(IS_LOST) ->
        if
        :: IS_LOST(1) -> victim = 1
        :: IS_LOST(2) -> victim = 2
        :: IS_LOST(3) -> victim = 3
        :: IS_LOST(4) -> victim = 4
        :: IS_LOST(5) -> victim = 5
        fi }
    :: atomic { !away && victim && !declared -> d_step { declare_dead(victim); check() } }
    :: atomic { !away && victim && declared ->
        if :: last = 0 :: last = 1 fi;
        if :: maybe = 0 :: maybe = 1 fi;
        d_step { recover_claims(victim, 0, false); victim = 0; declared = 0; check() } }
    :: atomic { victim && (disturbances || away) ->
        if :: !away -> disturbances-- :: else fi;
        d_step { victim = 0; renewed = 0; declared = 0; check() } }
    od
}

proctype Person() {
    byte t;
end_person:
    do
    :: atomic { !away && disturbances && ANY_TASK(IS_OPEN) ->
        CHOOSE_TASK(t, IS_OPEN);
        d_step {
            disturbances--;
            if :: WAITS(t) -> revoke_waiting(t, PERSON) :: else -> request_cancel(t) fi;
            t = 0;
            check()
        } }
    :: atomic { !away && disturbances && ANY_TASK(MAY_RUN_AGAIN) ->
        CHOOSE_TASK(t, MAY_RUN_AGAIN); d_step { disturbances--; resubmit(t); t = 0; check() } }
    od
}

/* A tick is a lease long. Who can renew does so before it is over; no time passes for which nobody waits. */
#define CANNOT_RENEW(w) (node[w] >= ORPHANED || cut[w] || away)
#define IS_DECAYING(r) (worker[r] == LIVE && lease[r] && (row[0] != r || CANNOT_RENEW(0)) && (row[1] != r || CANNOT_RENEW(1)))
#define HAS_RENEWED(w) (CANNOT_RENEW(w) || (worker[row[w]] == LIVE && lease[row[w]]))

proctype Time() {
end_time:
    do
    :: atomic { (ANY_ROW(IS_DECAYING) || (!away && !reachable && ANY_ROW(IS_LOST))) &&
                HAS_RENEWED(0) && HAS_RENEWED(1) ->
        d_step {
            for (i : 1 .. ROWS - 1) {
                if :: IS_DECAYING(i) -> lease[i] = 0 :: else fi
            }
            for (i : 0 .. NODES - 1) {
                if :: cut[i] && !away -> mute[i] = 1 :: else fi
            }
            reachable = !away;
            i = 0
        } }
    od
}

/* ======================================================================== what goes wrong */

#define IS_IN_DOUBT(w) (tx[w] == SENT && (away || unknown[w]))

proctype Adversary() {
    byte n;
end_adversary:
    do
    :: atomic { disturbances ->
        if :: n = 0 :: harmed -> n = 1 fi;
        if
        /* The slot's process is killed; the parent; the whole node. */
        :: node[n] == RUNS -> d_step {
            node[n] = DEAD; forget_process(n);
            if :: !KEEP(agent_looks_before_it_takes_back) -> word[n] = 1 :: else fi }
        :: node[n] <= CLEARED -> d_step { node[n] = ORPHANED; forget_process(n); seen_dead[n] = 0 }
        :: node[n] != DOWN -> d_step { node[n] = DOWN; forget_process(n); running[n] = 0; seen_dead[n] = 0; cut[n] = 0; mute[n] = 0 }
        /* It is frozen or cut off; PostgreSQL is away. */
        :: node[n] != DOWN && !cut[n] -> cut[n] = 1
        :: n == 0 && !away -> d_step { away = 1; reachable = 0 }
        /* An answer of PostgreSQL is lost; a transaction is. */
        :: node[n] == RUNS && tx[n] != NO_TX && !unknown[n] -> unknown[n] = 1
        :: tx[n] == SENT -> d_step { tx[n] = ABORTED; if :: node[n] != RUNS -> forget_process(n) :: else fi }
        /* A ticket is lost, or comes twice. */
        :: n == 0 && tickets -> tickets--
        :: n == 0 && tickets == 1 -> tickets++
        :: node[n] == DOWN -> skip
        fi;
        d_step { disturbances--; harmed = disturbances > 0; n = 0 } }
    /* Whatever is cut off comes back. A COMMIT that was on its way when a connection broke may be lost. */
    :: atomic { cut[0] -> cut[0] = 0 }
    :: atomic { cut[1] -> cut[1] = 0 }
    :: atomic { away -> away = 0 }
    :: atomic { IS_IN_DOUBT(0) || IS_IN_DOUBT(1) ->
        if :: IS_IN_DOUBT(0) -> n = 0 :: IS_IN_DOUBT(1) -> n = 1 fi;
        d_step { tx[n] = ABORTED; if :: node[n] != RUNS -> forget_process(n) :: else fi; n = 0 } }
    od
}

/* When nothing is left that could happen, every task has ended. */
proctype Watch() {
end_watch:
    timeout -> assert(FINAL(state[0]) && FINAL(state[TASKS - 1]))
}

init {
    byte n;
    atomic {
#ifdef SIMULATION
        disturbances = DISTURBANCES;
#else
        c_code { if (getenv("WITHOUT")) now.without = atoi(getenv("WITHOUT")); };
        /* Fewer, too: else one that may still come would hide a standstill. */
        select(disturbances : 0 .. DISTURBANCES);
#endif
        for (n : 0 .. TASKS - 1) {
            if :: once[n] = 0 :: once[n] = 1 fi;
            if :: d_step { submit_tasks(n, false) } :: TASKS == 1 -> d_step { submit_tasks(n, true) } fi
        }
        n = 0;
        worker[1] = LIVE; lease[1] = 1; row[0] = 1;
        worker[2] = LIVE; lease[2] = 1; row[1] = 2;
        run Node(0); run Node(1); run Agent(0); run Agent(1); run Postgres(); run Maintenance(); run Time();
        run Adversary(); run Watch();
#if SIMULATION != 2
        run Person()
#endif
    }
}
