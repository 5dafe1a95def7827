#include "cpu/streaming.h"
#include "cpu/threads.h"
#include "gemm/gemm.h"
#include "gemm/quantisation.h"

#include <assert.h>
#include <string.h>

// The plan. The operand along the shorter of m and n is packed whole, by all threads (`shared`). Of the other one each
// thread has a share of neighbouring panels, in tasks that are runs of them, which the thread that does one packs for
// itself (`own`), a block of k at a time, right before use and into its own cache. So nearly every element is packed
// once, the larger operand never travels through shared memory twice, and the threads wait for each other twice in a
// product: when the shared operand is there, and at the end. The tasks of a share get smaller towards its end, where
// threads that are done earlier help, so that the last wait is short. A B that comes packed stays where it is, in
// either part. While tiles multiply they fetch what is needed next: the shared panels that follow or, where the shared
// operand is narrow, what their thread will probably pack. Some tiles pack a panel of B themselves.

/// The larger side of any variant's tile: the workspace must hold the panels of whichever is selected when the product
/// runs.
enum { most_nr = 32 };
/// The most bytes per step of k that any variant's run of own panels, or a piece of a shared operand, takes.
static size_t own_bytes_per_k(dmae_precision precision) {
    switch (precision) {
    case DMAE_PRECISION_INT8: return 256;
    case DMAE_PRECISION_BF16: return 512;
    default: return 1536;
    }
}
/// The most bytes that any variant's panels take for a value.
static size_t most_value_bytes(dmae_precision precision) { return precision == DMAE_PRECISION_F32 ? 6 : sizeof(float); }
/// A multiple of every k_unit.
enum { most_k_unit = 64 };

/// Depth of a block of k. A result in bf16 could not hold partial sums: then there is one block.
static size_t block_of(size_t k, size_t most, size_t unit, dmae_type output) {
    const size_t blocks = output == DMAE_TYPE_BF16 || k == 0 ? 1 : dmae_ceiling(k, most);
    return dmae_round_up(dmae_ceiling(k, blocks), unit);
}
static size_t shared_width(size_t m, size_t n) { return dmae_round_up(dmae_least(m, n), 16) + most_nr; }

size_t dmae_gemm_workspace(dmae_precision precision, size_t m, size_t n, size_t k, dmae_type output) {
    if (precision == DMAE_PRECISION_INT8) {
        // Of 8 bits or 16, each row with at most two words in front; whole rows of A alone, all of them or a thread's
        // own.
        const size_t depth = dmae_round_up(k, most_k_unit), head = 2 * sizeof(float);
        return dmae_round_up(shared_width(m, n) * (depth * sizeof(int16_t) + head), 64) +
               (size_t)dmae_threads() * own_bytes_per_k(precision) * dmae_round_up(depth + head, 64);
    }
    // The longest block of any k up to this one: blocks are equal, so those of a smaller k may be longer than this k's.
    const size_t depth = dmae_round_up(k, most_k_unit),
                 block = output == DMAE_TYPE_BF16 ? depth : dmae_least(depth, gemm_most_k_block);
    return dmae_round_up(shared_width(m, n) * depth * most_value_bytes(precision), 64) +
           (size_t)dmae_threads() * own_bytes_per_k(precision) * block;
}

/// One product, or one block of k of it.
struct plan {
    dmae_gemm_arguments g;
    const struct gemm_kernels *kernels;
    bool shared_is_a;
    size_t shared_panels, own_panels;
    size_t few; ///< own panels that are packed together at least, but for the last of all: then own_groups of them
    size_t own_groups;
    size_t shares, share; ///< each thread has one of the shares: neighbouring groups, at most `share` of them
    size_t runs, run;     ///< of each the first `runs` tasks are `run` groups each, with all shared panels,
    size_t split, parts,
        part; ///< the last `split` groups are cut into `parts` tasks each, of at most `part` shared panels
    size_t k_block;
    size_t first, depth; ///< of k
    bool is_first, is_last;
    char *shared;
};

/// Bytes of one panel `width` values wide and `depth` deep.
static size_t panel_bytes(const struct gemm_kernels *kernels, size_t width, size_t depth) {
    return width * (dmae_round_up(depth, kernels->k_unit) * kernels->value_bytes + kernels->head_bytes);
}
static size_t a_bytes(const struct plan *p) { return panel_bytes(p->kernels, p->kernels->mr, p->depth); }
static size_t b_bytes(const struct plan *p) { return panel_bytes(p->kernels, p->kernels->nr, p->depth); }

static const void *element(const void *matrix, dmae_type type, size_t index) {
    return (const char *)matrix + index * dmae_type_bytes(type);
}

/// Packs the panels [begin, end) of A.
static void pack_a(const struct plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = begin * p->kernels->mr, at = g->a_transposed ? p->first * g->lda + i : i * g->lda + p->first;
    p->kernels->pack_a(dmae_least(end * p->kernels->mr, g->m) - i, p->depth, g->a_type, element(g->a, g->a_type, at),
                       g->lda, g->a_transposed, target);
}

static void pack_b(const struct plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t j = begin * p->kernels->nr, at = g->b_transposed ? j * g->ldb + p->first : p->first * g->ldb + j;
    p->kernels->pack_b(dmae_least(end * p->kernels->nr, g->n) - j, p->depth, g->b_type, element(g->b, g->b_type, at),
                       g->ldb, !g->b_transposed, target);
}

/// A panel that holds all of k, from this block on.
static const char *whole_panel(const struct plan *p, const void *panels, size_t width, size_t panel) {
    return (const char *)panels + panel * panel_bytes(p->kernels, width, p->g.k) +
           p->first * width * p->kernels->value_bytes;
}

/// A run of own panels.
struct task {
    size_t begin, end;               ///< own panels; none, behind the last task
    size_t shared_begin, shared_end; ///< shared panels that they meet
};

/// Memory that is needed after the next few tiles. Each of them fetches a share of it while it multiplies.
struct upcoming {
    const char *first;
    size_t length, stride;    ///< of lines that lie `stride` bytes apart,
    size_t lengths, distance; ///< and of such lengths, `distance` bytes apart
    size_t share, shares;     ///< lines for one tile, and tiles for one length
    size_t tile;
};
enum { line_bytes = 64 };

/// The shares that as many tiles take.
static struct upcoming spread(struct upcoming u, size_t tiles) {
    if (u.length == 0 || u.lengths == 0) return (struct upcoming){0};
    u.share = dmae_ceiling(u.length, tiles < u.lengths ? 1 : tiles / u.lengths);
    u.shares = dmae_ceiling(u.length, u.share);
    return u;
}

static struct gemm_lines take_share(struct upcoming *u) {
    if (u->tile >= u->lengths * u->shares) return (struct gemm_lines){0};
    const size_t length = u->tile / u->shares, begin = u->tile % u->shares * u->share;
    ++u->tile;
    return (struct gemm_lines){u->first + length * u->distance + begin * u->stride, u->stride,
                               dmae_least(u->share, u->length - begin)};
}

/// The block of k at p->first of packed panels [begin, end).
static struct upcoming upcoming_panels(const struct plan *p, const void *panels, size_t width, size_t begin, size_t end,
                                       size_t tiles) {
    const size_t bytes = panel_bytes(p->kernels, width, dmae_least(p->k_block, p->g.k - p->first));
    const struct upcoming all = {.first = whole_panel(p, panels, width, begin),
                                 .length = dmae_ceiling(bytes, line_bytes),
                                 .stride = line_bytes,
                                 .lengths = end - begin,
                                 .distance = panel_bytes(p->kernels, width, p->g.k)};
    return spread(all, tiles);
}

/// Whether k runs down the rows of memory in the operand that threads pack for themselves.
static bool own_is_across(const struct plan *p) { return p->shared_is_a ? !p->g.b_transposed : p->g.a_transposed; }

/// What the own panels of `task` are packed from, or are, where they come packed; the block of k at p->first.
static struct upcoming upcoming_own(const struct plan *p, struct task task, size_t tiles) {
    const struct gemm_kernels *const kernels = p->kernels;
    const dmae_gemm_arguments *const g = &p->g;
    if (task.begin >= task.end) return (struct upcoming){0};
    if (p->shared_is_a && g->b_packed) return upcoming_panels(p, g->b_packed, kernels->nr, task.begin, task.end, tiles);
    const bool across = own_is_across(p);
    if (across && !kernels->fetches_across) return (struct upcoming){0};
    const dmae_type type = p->shared_is_a ? g->b_type : g->a_type;
    const size_t unit = p->shared_is_a ? kernels->nr : kernels->mr, i = task.begin * unit,
                 ld = p->shared_is_a ? g->ldb : g->lda;
    const size_t width = dmae_least(task.end * unit, p->shared_is_a ? g->n : g->m) - i,
                 depth = dmae_least(p->k_block, g->k - p->first);
    const size_t at = across ? p->first * ld + i : i * ld + p->first;
    const char *const first = element(p->shared_is_a ? g->b : g->a, type, at);
    const size_t row = ld * dmae_type_bytes(type), before = (uintptr_t)first % line_bytes;
    const size_t lines = dmae_ceiling(before + (across ? width : depth) * dmae_type_bytes(type), line_bytes);
    const struct upcoming all = {.first = first - before,
                                 .length = across ? depth : lines,
                                 .stride = across ? row : line_bytes,
                                 .lengths = across ? lines : width,
                                 .distance = across ? line_bytes : row};
    return spread(all, tiles);
}

/// Shared panels that meet an own panel before the next own one does.
static size_t round_of(const struct plan *p) {
    if (p->shared_is_a) return p->kernels->round_a;
    const size_t bytes = b_bytes(p), panels = bytes ? p->kernels->round_b_bytes / bytes : 1;
    return panels > 1 ? panels : 1;
}

/// `packs_b`: the panel of B is yet to be packed.
static void run_tile(const struct plan *p, struct upcoming *upcoming, size_t a_panel, const char *a, size_t b_panel,
                     const char *b, bool packs_b) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = a_panel * p->kernels->mr, j = b_panel * p->kernels->nr;
    struct gemm_tile tile = {.rows = dmae_least(p->kernels->mr, g->m - i),
                             .columns = dmae_least(p->kernels->nr, g->n - j),
                             .k = p->depth,
                             .a = a,
                             .b = b,
                             .streams_a = !p->shared_is_a && round_of(p) == 1,
                             .ahead = take_share(upcoming)};
    if (packs_b) {
        tile.b_source = element(g->b, g->b_type, p->first * g->ldb + j);
        tile.b_source_type = g->b_type;
        tile.ld_b_source = g->ldb;
    }
    // Partial sums between blocks of k rest in C, or in the activation when C is not kept.
    if (g->c) {
        tile.c = (char *)g->c + (i * g->ldc + j) * dmae_type_bytes(g->c_type);
        tile.ldc = g->ldc;
        tile.c_type = g->c_type;
    } else {
        tile.c = (char *)g->activation + (i * g->ldactivation + j) * dmae_type_bytes(g->activation_type);
        tile.ldc = g->ldactivation;
        tile.c_type = g->activation_type;
    }
    if (!p->is_first || g->accumulate) {
        tile.addend = tile.c;
        tile.ld_addend = tile.ldc;
    }
    tile.stream_c = g->stream_c && p->is_first && p->is_last;
    // A residual that is C itself must be read before the first block overwrites it.
    if (g->residual && (g->accumulate ? p->is_last : p->is_first)) {
        tile.residual = g->residual + i * g->ldr + j;
        tile.ld_residual = g->ldr;
    }
    if (p->is_last) {
        tile.bias = g->bias ? g->bias + j : NULL;
        if (g->activation) {
            tile.activation = (char *)g->activation + (i * g->ldactivation + j) * dmae_type_bytes(g->activation_type);
            tile.ld_activation = g->ldactivation;
            tile.activation_type = g->activation_type;
            if (!g->c) tile.c = NULL;
        }
        if (g->before_gelu) {
            tile.before_gelu = element(g->before_gelu, g->before_gelu_type, i * g->ldbefore + j);
            tile.ld_before_gelu = g->ldbefore;
            tile.before_gelu_type = g->before_gelu_type;
        }
    }
    p->kernels->tile(&tile);
}

/// The shared operand is packed in pieces of `panels` panels, `depth` of k each: four panels of A or two of B, and a
/// block of k. Where k runs down the rows of memory they are four times as wide and less deep, so that a piece reads
/// whole lines.
struct pieces {
    size_t panels, depth, across, down; ///< size of a piece, and how many there are
};
static struct pieces shared_pieces(const struct plan *p) {
    const bool is_across = p->shared_is_a ? p->g.a_transposed : !p->g.b_transposed;
    const size_t unit = p->kernels->k_unit < 16 ? 16 : p->kernels->k_unit;
    const size_t times = is_across && p->k_block >= 4 * unit ? 4 : 1, panels = times * (p->shared_is_a ? 4 : 2);
    // No more than the memory for own panels holds, and a multiple of k_unit.
    const size_t depth = times == 1 ? p->k_block : p->k_block / (times * unit) * unit;
    // One piece where k is 0, too: panels may have a head.
    const bool is_there = p->g.b_packed && !p->shared_is_a;
    return (struct pieces){panels, depth, is_there ? 0 : dmae_ceiling(p->shared_panels, panels),
                           depth == 0 ? 1 : dmae_ceiling(p->g.k, depth)};
}

/// `scratch` is the thread's memory for own panels.
static void pack_shared(const struct plan *p, const struct pieces *pieces, size_t index, char *scratch) {
    const size_t width = p->shared_is_a ? p->kernels->mr : p->kernels->nr;
    const size_t begin = index % pieces->across * pieces->panels,
                 end = dmae_least(begin + pieces->panels, p->shared_panels);
    struct plan piece = *p;
    piece.first = index / pieces->across * pieces->depth;
    piece.depth = dmae_least(pieces->depth, p->g.k - piece.first);
    // A piece as deep as k lies in one place.
    char *const place = (char *)whole_panel(&piece, p->shared, width, begin);
    const bool is_in_place = p->kernels->keeps_shared && piece.depth == p->g.k;
    if (p->shared_is_a) pack_a(&piece, begin, end, is_in_place ? place : scratch);
    else pack_b(&piece, begin, end, is_in_place ? place : scratch);
    if (is_in_place) return;
    const size_t bytes = panel_bytes(p->kernels, width, piece.depth), distance = panel_bytes(p->kernels, width, p->g.k);
    for (size_t panel = 0; panel < end - begin; ++panel) {
        if (p->kernels->keeps_shared) memcpy(place + panel * distance, scratch + panel * bytes, bytes);
        else dmae_stream_copy(place + panel * distance, scratch + panel * bytes, bytes);
    }
    dmae_stream_fence();
}

/// Multiplies own panels by shared ones over all blocks of k. The thread will probably do `following` next.
static void run_task(struct plan p, struct task task, struct task following, char *own) {
    if (task.begin == task.end) return;
    const size_t mr = p.kernels->mr, nr = p.kernels->nr, own_panels = task.end - task.begin;
    const void *const shared = !p.shared_is_a && p.g.b_packed ? p.g.b_packed : p.shared;
    const size_t shared_width = p.shared_is_a ? mr : nr;
    // Packing a panel of B that lies across is little work: the first tile that meets it does it while it multiplies,
    // if both its panels are whole; from `unpacked` on, and elsewhere, panels are packed first. Panels of A are narrow:
    // what one leaves of a line would be gone when the next one comes.
    const bool tiles_pack = p.kernels->packs_in_tiles && p.shared_is_a && own_is_across(&p) && !p.g.b_packed &&
                            task.shared_begin < p.g.m / mr && task.begin < p.g.n / nr;
    const size_t unpacked = tiles_pack ? dmae_least(p.g.n / nr, task.end) : task.begin;
    const bool is_narrow = dmae_least(p.g.m, p.g.n) <= p.kernels->narrow;
    for (p.first = 0; p.first == 0 || p.first < p.g.k; p.first += p.k_block) {
        p.depth = dmae_least(p.k_block, p.g.k - p.first);
        p.is_first = p.first == 0;
        p.is_last = p.first + p.depth >= p.g.k;
        const size_t own_bytes = p.shared_is_a ? b_bytes(&p) : a_bytes(&p);
        if (!p.shared_is_a) pack_a(&p, task.begin, task.end, own);
        else if (unpacked < task.end && !p.g.b_packed)
            pack_b(&p, unpacked, task.end, own + (unpacked - task.begin) * own_bytes);
        struct upcoming upcoming = {0};
        if (is_narrow) {
            struct plan then = p;
            then.first = p.is_last ? 0 : p.first + p.k_block;
            upcoming =
                upcoming_own(&then, p.is_last ? following : task, own_panels * (task.shared_end - task.shared_begin));
        }
        const size_t round = round_of(&p);
        for (size_t first = task.shared_begin; first < task.shared_end; first += round) {
            const size_t last = dmae_least(first + round, task.shared_end);
            if (!is_narrow && p.kernels->fetches_shared) {
                const size_t after = dmae_least(last + round, task.shared_end);
                upcoming = upcoming_panels(&p, shared, shared_width, last, after, own_panels * (last - first));
            }
            if (p.shared_is_a) {
                for (size_t j = task.begin; j < task.end; ++j)
                    for (size_t i = first; i < last; ++i)
                        run_tile(&p, &upcoming, i, whole_panel(&p, shared, mr, i), j,
                                 p.g.b_packed ? whole_panel(&p, p.g.b_packed, nr, j)
                                              : own + (j - task.begin) * own_bytes,
                                 j < unpacked && i == task.shared_begin);
            } else {
                for (size_t i = task.begin; i < task.end; ++i)
                    for (size_t j = first; j < last; ++j)
                        run_tile(&p, &upcoming, i, own + (i - task.begin) * own_bytes, j,
                                 whole_panel(&p, shared, nr, j), false);
            }
        }
        if (p.k_block == 0) break;
    }
}

static size_t tasks_of_share(const struct plan *p) {
    return p->runs + (p->share - p->runs * p->run - p->split) + p->split * p->parts;
}
static size_t task_count(const struct plan *p) { return p->shares * tasks_of_share(p); }
/// A share that has a group less than others lacks the first: its task is empty, or smaller. So each has the last ones,
/// which are small.
static struct task task_at(const struct plan *p, size_t index) {
    const size_t tasks = tasks_of_share(p), share = index / tasks, at = index % tasks,
                 whole = tasks - p->split * p->parts;
    size_t group = at * p->run, groups = 1, begin = 0, end = p->shared_panels;
    if (at < p->runs) {
        groups = p->run;
    } else if (at < whole) {
        group = p->runs * p->run + (at - p->runs);
    } else {
        group = p->share - p->split + (at - whole) / p->parts;
        begin = (at - whole) % p->parts * p->part;
        end = dmae_least(begin + p->part, p->shared_panels);
    }
    const size_t first = share * p->own_groups / p->shares, last = (share + 1) * p->own_groups / p->shares;
    const size_t lacking = p->share - (last - first);
    const size_t from = first + group - dmae_least(group, lacking), to = first + group + groups - lacking;
    return (struct task){dmae_least(from * p->few, p->own_panels), dmae_least(to * p->few, p->own_panels), begin, end};
}

/// What a thread does after the task if it is one of its own, or nothing: whose share ends, or who helps another, has
/// no task that follows.
static struct task task_after(const struct plan *p, size_t index, size_t thread) {
    const size_t share = index / tasks_of_share(p), next = index + 1;
    return share == thread && next / tasks_of_share(p) == share ? task_at(p, next) : (struct task){0};
}

/// Cuts the work into tasks: a share for each thread, which does its tasks in order, and then takes the last ones of
/// others. With one thread nobody waits.
static void plan_tasks(struct plan *p, size_t threads) {
    size_t fitting = p->shared_is_a ? p->kernels->run_b : p->kernels->run_a;
    const size_t bytes = panel_bytes(p->kernels, p->shared_is_a ? p->kernels->nr : p->kernels->mr, p->k_block);
    const size_t shared =
        p->shared_panels * panel_bytes(p->kernels, p->shared_is_a ? p->kernels->mr : p->kernels->nr, p->k_block);
    const size_t room = p->kernels->run_bytes, most = 2 * shared <= room ? room / 2 : room;
    if (room && fitting * bytes > most) fitting = most / bytes;
    if (fitting == 0) fitting = 1;
    // Packed alone, a narrow panel that lies across the rows of memory would take a line for a part of it.
    p->few = dmae_ceiling(fitting, 4);
    p->own_groups = dmae_ceiling(p->own_panels, p->few);
    p->shares = threads;
    p->share = dmae_ceiling(p->own_groups, threads);
    p->run = threads == 1 ? fitting / p->few : dmae_least(fitting / p->few, p->share / 4);
    if (p->run == 0) p->run = 1;
    // Runs of several groups first, then single ones. Each part of a group packs it anew: parts of the last ones follow
    // only where a share is few groups, or where a group meets so many shared panels that others would wait long for
    // the last one.
    enum { least_part = 4, most_parts = 8, enough_groups = 8 };
    const bool are_many = p->kernels->many_shared && p->shared_panels >= p->kernels->many_shared;
    p->part = dmae_ceiling(p->shared_panels, most_parts);
    if (p->part < least_part) p->part = least_part;
    p->parts = dmae_ceiling(p->shared_panels, p->part);
    const size_t split = p->own_groups < enough_groups * threads ? 2 : are_many ? 1 : 0;
    p->split = threads == 1 ? 0 : dmae_least(p->share, split);
    const size_t single = threads == 1 ? 0 : dmae_least(p->share - p->split, 2);
    p->runs = (p->share - p->split - single) / p->run;
}

static const struct gemm_kernels *kernels_for(dmae_precision precision) {
    switch (precision) {
    case DMAE_PRECISION_INT8: return KERNELS(gemm_int8);
    case DMAE_PRECISION_BF16: return KERNELS(gemm_bf16);
    default: return KERNELS(gemm_f32);
    }
}

bool dmae_gemm_is_native(dmae_precision precision) { return !kernels_for(precision)->is_emulated; }

void dmae_gemm(const dmae_gemm_arguments *arguments) {
    dmae_gemm_arguments g = *arguments;
    const dmae_type output = g.c ? g.c_type : g.activation_type;
    assert(g.c || g.activation);
    assert(!(g.accumulate && g.activation) && !(g.residual && g.activation));
    assert(!g.accumulate || g.residual == NULL || g.residual != g.c);
    assert(!g.accumulate || g.c_type == DMAE_TYPE_F32);
    assert(!g.before_gelu || (g.c && !(g.bias || g.residual || g.accumulate)));
    assert(!g.stream_c ||
           (g.c_type == DMAE_TYPE_F32 && !(g.accumulate || g.bias || g.residual || g.activation || g.before_gelu)));
    assert(g.precision != DMAE_PRECISION_INT8 ||
           (g.b_packed && !g.a_transposed && !g.accumulate && !g.before_gelu && g.k <= gemm_int8_most_k));
    assert((uintptr_t)g.workspace % 64 == 0 && (uintptr_t)g.b_packed % 64 == 0);
    if (g.m == 0 || g.n == 0) return;
    const struct gemm_kernels *const kernels = kernels_for(g.precision);
    if (g.b_packed && kernels->plain_b) {
        g.b = g.b_packed;
        g.b_type = DMAE_TYPE_F32;
        g.ldb = g.k;
        g.b_transposed = true;
        g.b_packed = NULL;
    }
    assert(kernels->run_a * kernels->mr * kernels->value_bytes <= own_bytes_per_k(g.precision));
    assert(kernels->run_b * kernels->nr * kernels->value_bytes <= own_bytes_per_k(g.precision));
    const size_t a_panels = dmae_ceiling(g.m, kernels->mr), b_panels = dmae_ceiling(g.n, kernels->nr);
    struct plan plan = {.g = g, .kernels = kernels, .shared_is_a = g.m <= g.n};
    plan.shared_panels = plan.shared_is_a ? a_panels : b_panels;
    plan.own_panels = plan.shared_is_a ? b_panels : a_panels;
    plan.k_block = block_of(g.k, kernels->k_block, kernels->k_unit, output);
    plan.shared = g.workspace;
    const size_t own_bytes =
        own_bytes_per_k(g.precision) / kernels->value_bytes * dmae_round_up(panel_bytes(kernels, 1, plan.k_block), 64);
    char *const own = plan.shared + dmae_round_up(panel_bytes(kernels, shared_width(g.m, g.n), g.k), 64);
    // OpenMP's runtime allocates a buffer for a region of one thread: then there is none.
    const int threads = dmae_threads_for(a_panels * b_panels);
    plan_tasks(&plan, (size_t)threads);
    const struct pieces pieces = shared_pieces(&plan);
    const size_t piece_count = pieces.across * pieces.down, tasks = task_count(&plan);
    if (threads == 1) {
        for (size_t piece = 0; piece < piece_count; ++piece) pack_shared(&plan, &pieces, piece, own);
        if (kernels->begin) kernels->begin();
        for (size_t task = 0; task < tasks; ++task)
            run_task(plan, task_at(&plan, task), task_after(&plan, task, 0), own);
        if (kernels->end) kernels->end();
        dmae_stream_fence();
        return;
    }
    struct dmae_share pieces_left[threads], tasks_left[threads];
    dmae_deal(pieces_left, (size_t)threads, piece_count);
    dmae_deal(tasks_left, (size_t)threads, tasks); // as many shares as threads: to each its own
#pragma omp parallel num_threads(threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        char *const mine = own + thread * own_bytes;
        size_t next;
        while (dmae_take(pieces_left, (size_t)threads, thread, &next)) pack_shared(&plan, &pieces, next, mine);
#pragma omp barrier
        if (kernels->begin) kernels->begin();
        while (dmae_take(tasks_left, (size_t)threads, thread, &next))
            run_task(plan, task_at(&plan, next), task_after(&plan, next, thread), mine);
        if (kernels->end) kernels->end();
        dmae_stream_fence();
    }
}

size_t dmae_gemm_packed_bytes(dmae_precision precision, size_t k, size_t n) {
    const struct gemm_kernels *const kernels = kernels_for(precision);
    if (kernels->plain_b) return dmae_round_up(n * k * sizeof(float), 64);
    return dmae_round_up(dmae_ceiling(n, kernels->nr) * panel_bytes(kernels, kernels->nr, k), 64);
}

/// Column `column` of op(B)[k,n] as float32 side by side.
static void copy_column(size_t k, dmae_type type, const void *b, size_t ldb, bool b_transposed, size_t column,
                        float *target) {
    for (size_t p = 0; p < k; ++p) {
        const size_t at = b_transposed ? column * ldb + p : p * ldb + column;
        if (type == DMAE_TYPE_F32) {
            target[p] = ((const float *)b)[at];
        } else {
            const uint32_t bits = (uint32_t)((const uint16_t *)b)[at] << 16;
            memcpy(target + p, &bits, sizeof bits);
        }
    }
}

void dmae_gemm_pack(dmae_precision precision, size_t k, size_t n, dmae_type b_type, const void *b, size_t ldb,
                    bool b_transposed, void *packed) {
    assert(precision != DMAE_PRECISION_INT8 || (b_transposed && k <= gemm_int8_most_k));
    const struct gemm_kernels *const kernels = kernels_for(precision);
    if (kernels->plain_b) {
        DMAE_PARALLEL_FOR(column, n, 64,
                          { copy_column(k, b_type, b, ldb, b_transposed, column, (float *)packed + column * k); });
        return;
    }
    const struct plan plan = {.g = {.k = k, .n = n, .b_type = b_type, .b = b, .ldb = ldb, .b_transposed = b_transposed},
                              .kernels = kernels,
                              .depth = k};
    const size_t panels = dmae_ceiling(n, kernels->nr);
    DMAE_PARALLEL_FOR(run, dmae_ceiling(panels, 2), 1, {
        pack_b(&plan, 2 * run, dmae_least(2 * run + 2, panels), (char *)packed + 2 * run * b_bytes(&plan));
    });
}
