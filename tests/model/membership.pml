/* Who belongs to the volume, what is acknowledged, and what a restart may serve: N stores and the
 * witness record. Each step names the C function that does it.
 *
 *   write           mirror_change()            all ONLINE stores, one after the other
 *   lose, record    leave_locked(), member_record_locked(): survivors' superblocks, then the witness
 *   restart         assemble(): find_newest(), ask_witness(), judge_member()
 *   sync begin      begin_locked(): SYNCING is recorded before the first byte is changed
 *   sync end        done_locked(): ONLINE is recorded when all is equal
 *   remove, add     mirror_remove(), then the keeper gives the folder back; a new store in its place
 *
 * Checked in every run, with stores that vanish and come back, are removed and added, and a daemon that is
 * killed anywhere:
 *   what is served holds every acknowledged write, and is no mixture.
 *
 * The safeguards, each of which can be taken away; then spin must find a run that breaks the rule:
 *   -DNO_RECORD      a loss is acknowledged before it is recorded
 *   -DNO_WITNESS     the newest record that can be reached decides
 *   -DNO_MIXTURE     a store that is being caught up is not recorded as such first
 *   -DNO_EQUAL       a store is ONLINE before its catch-up has ended
 *   -DNO_MOUNT       a mount is not recorded before the first change
 *   -DNO_LAST        the last store that is ONLINE may be removed
 */
#define N 2
#define WRITES 3
#define FAULTS 3
#define RESTARTS 2
#define SYNCS 1
#define SWAPS 1
#define GENERATIONS 16
#define HAS(set, i) ((set >> i) & 1)

byte data[N];            /* the newest write that is on the store */
bool mixed[N];           /* a catch-up changed it and has not ended */
byte gen[N], set[N];     /* its superblock: generation (0: it is new), who is ONLINE */
bool there[N];           /* it can be reached */
byte wgen = 1, wset = (1 << N) - 1;
byte acked, restarts, faults, syncs, swaps;
byte parent[GENERATIONS]; /* super_new_generation(): ids are never the same twice; the old one goes into the history */
byte last = 1;

/* the daemon's memory */
byte online, mgen, v;

/* super_knows(): is `b` generation `a`, or in its history? */
inline knows(a, b) {
    h = a;
    do
    :: h != b && h != 0 -> h = parent[h]
    :: else -> break
    od
}

inline new_generation() {
    atomic {
        if :: last == GENERATIONS - 1 -> goto end :: else fi;
        last++;
        parent[last] = mgen;
        mgen = last
    }
}

inline kill9() {
    if
    :: restarts < RESTARTS -> restarts++; goto start
    :: true
    fi
}

/* member_record_locked(): the witness is written last; every write may be the last one */
inline record() {
    kill9();
    k = 0;
    do
    :: k < N && HAS(online, k) && there[k] -> atomic { gen[k] = mgen; set[k] = online; k++ } kill9()
    :: k < N && !(HAS(online, k) && there[k]) -> k++
    :: k == N -> break
    od;
    atomic { wgen = mgen; wset = online }
    kill9()
}

proctype daemon() {
    byte i, k, ok, best, bestgen, from, h;

start:
    atomic {
        /* find_newest() */
        i = 0; best = N; bestgen = 0;
        do
        :: i < N && there[i] && gen[i] != 0 -> /* super_is_newcomer(): it says nothing */
            if
            :: best == N -> best = i; bestgen = gen[i]
            :: else ->
                knows(gen[i], bestgen);
                if
                :: h != 0 -> best = i; bestgen = gen[i]
                :: else -> /* older, or a split brain: refused */
                    knows(bestgen, gen[i]);
                    if :: h == 0 -> goto end :: else fi
                fi
            fi;
            i++
        :: i < N && !(there[i] && gen[i] != 0) -> i++
        :: i == N -> break
        od;
        if :: best == N -> goto end :: else fi;
        mgen = bestgen; online = set[best];
#ifndef NO_WITNESS
        /* ask_witness(): what is here is older than what was seen last: refused */
        knows(bestgen, wgen);
        if :: h == 0 -> goto end :: else fi;
#endif
        /* judge_member(): only who is ONLINE in the newest record takes part, and whoever is ONLINE but
         * of an older generation does not */
        i = 0; ok = 0;
        do
        :: i < N -> if :: there[i] && HAS(online, i) && gen[i] == bestgen -> ok = ok | (1 << i) :: else fi; i++
        :: i == N -> break
        od;
        if :: ok == 0 -> goto end :: else fi;
        /* recover_stores(): one source, the others are made equal to it before they serve */
        i = 0; from = N;
        do
        :: i < N -> if :: HAS(ok, i) && from == N -> from = i
                       :: HAS(ok, i) && from != N && data[i] > data[from] -> from = i
                       :: else fi; i++
        :: i == N -> break
        od;
        v = data[from];
        assert(v >= acked);
        assert(!mixed[from]);
        i = 0;
        do
        :: i < N -> if :: HAS(ok, i) -> data[i] = v :: else fi; i++
        :: i == N -> break
        od
    }
    /* record_mount(): who is missing is recorded as lost (-o degraded), and every mount counts: here, as
     * a generation. Everything is recorded before the first change. */
    online = ok;
    new_generation();
#ifndef NO_MOUNT
    record();
#endif
    do
    :: v < WRITES -> /* mirror_change() */
        v++; i = 0; ok = 0;
        do
        :: i < N && HAS(online, i) && there[i] -> atomic { data[i] = v; ok = ok | (1 << i); i++ } kill9()
        :: i < N && !(HAS(online, i) && there[i]) -> i++
        :: i == N -> break
        od;
        if :: ok == 0 -> goto end :: else fi;
        if
        :: ok != online -> /* leave_locked() */
            online = ok; new_generation();
#ifdef NO_RECORD
            acked = v;
#endif
            record();
            acked = v
        :: else -> acked = v
        fi
    :: syncs < SYNCS && online != (1 << N) - 1 -> /* mirror_sync_begin() ... mirror_sync_done() */
        syncs++; i = 0; from = N; best = N;
        do
        :: i < N -> if :: HAS(online, i) && there[i] -> from = i :: !HAS(online, i) && there[i] -> best = i :: else fi; i++
        :: i == N -> break
        od;
        if
        :: from < N && best < N ->
#ifndef NO_MIXTURE
            atomic { gen[best] = mgen; set[best] = online } /* its superblock says SYNCING */
            kill9();
#else
            atomic { gen[best] = mgen; set[best] = online | (1 << best) }
#endif
            mixed[best] = true;
            kill9();
#ifdef NO_EQUAL
            online = online | (1 << best); record();
#endif
            if
            :: there[best] && there[from] && data[from] == v ->
                atomic { data[best] = v; mixed[best] = false }
                online = online | (1 << best);
                record()
            :: else
            fi
        :: else
        fi
    :: swaps < SWAPS -> /* mirror_remove(), give_back(), mirror_add() */
        swaps++;
        if :: i = 0 :: i = N - 1 fi;
        if
#ifndef NO_LAST
        :: online == (1 << i) -> skip /* refused */
#endif
        :: else ->
            online = online & ~(1 << i); new_generation();
            record();
            atomic { gen[i] = 0; set[i] = 0; data[i] = 0; mixed[i] = false }
            k = 0;
            do
            :: k < N && !(HAS(online, k) && data[k] >= acked) -> k++
            :: else -> break
            od;
            assert(k < N); /* a good copy is left */
            kill9()
        fi
    :: restarts < RESTARTS -> restarts++; goto start
    :: true -> break
    od;
end:
    skip
}

proctype environment() {
    byte i;

    do
    :: faults < FAULTS -> faults++; select(i : 0 .. N - 1); there[i] = !there[i]
    :: true -> break
    od
}

init {
    byte j;

    atomic {
        do
        :: j < N -> gen[j] = 1; set[j] = (1 << N) - 1; there[j] = true; j++
        :: j == N -> break
        od;
        run daemon();
        run environment()
    }
}
