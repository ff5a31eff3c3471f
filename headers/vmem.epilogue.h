/* Casts that compilers take without a warning, in C and in C++. */
#ifdef __cplusplus
#define LIBPALLOC_CAST_(type, value) static_cast<type>(value)
#define LIBPALLOC_ADDRESS_(pointer) reinterpret_cast<uintptr_t>(pointer)
#else
#define LIBPALLOC_CAST_(type, value) ((type)(value))
#define LIBPALLOC_ADDRESS_(pointer) ((uintptr_t)(pointer))
#endif

/* vmem_align_forward, vmem_align_backward and vmem_is_aligned without checks. */
static inline uintptr_t vmem_align_forward_fast(uintptr_t address, int align)
{
    const uintptr_t mask = LIBPALLOC_CAST_(uintptr_t, align) - 1;

    return (address + mask) & ~mask;
}

static inline uintptr_t vmem_align_backward_fast(uintptr_t address, int align)
{
    return address & ~(LIBPALLOC_CAST_(uintptr_t, align) - 1);
}

static inline VMemResult vmem_is_aligned_fast(uintptr_t address, int align)
{
    return (address & (LIBPALLOC_CAST_(uintptr_t, align) - 1)) == 0;
}

/* 1 if the arena is initialized and its numbers agree; 0 if not, or if it is NULL. Never fails. */
static inline VMemResult vmem_arena_is_valid(const VMemArena *arena)
{
    return arena && arena->mem && arena->size_bytes != 0 && arena->commited <= arena->size_bytes;
}

/* How many bytes an arena takes of which `num_bytes` are committed: whole pages. Never fails. */
static inline VMemSize vmem_arena_calc_bytes_used_for_size(VMemSize num_bytes)
{
    const VMemSize mask = vmem_get_page_size() - 1;

    return (num_bytes + mask) & ~mask;
}

/*
 * The growing arena, for what is needed together and given back together:
 *
 *   VMemGrowArena arena;
 *   VMemSize mark;
 *   char *name;
 *
 *   vmem_grow_init(&arena, (VMemSize)1 << 36, 0);  never more than 64 GiB
 *   mark = vmem_grow_mark(&arena);
 *   name = (char *)vmem_grow_push(&arena, 100, 1);
 *   ...
 *   vmem_grow_pop_to(&arena, mark);                name is given back
 *   vmem_grow_deinit(&arena);
 *
 * What is pushed stays where it is. Memory is committed ahead, 64 KiB at first and twice as much each
 * time up to 2 MiB, less where memory is short; so most pushes are an addition.
 */

/*
 * Takes `size` bytes, with an address that is a multiple of `align`, a power of two. What they hold is
 * not defined.
 *
 * Returns their address, or NULL on failure, with nothing changed. Fails iff:
 * - `size` is 0, or `align` is not a power of two.
 * - `arena` is NULL or not initialized.
 * - What was reserved for the arena does not suffice.
 * - vmem_commit of what is missing would.
 */
static inline void *vmem_grow_push(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    if (arena && (align & (align - 1)) == 0) {
        const VMemSize left = LIBPALLOC_ADDRESS_(arena->limit) - LIBPALLOC_ADDRESS_(arena->next);
        const VMemSize pad = (0 - LIBPALLOC_ADDRESS_(arena->next)) & (align - 1);

        if (size - 1 < left && pad <= left - size) {
            uint8_t *const at = arena->next + pad;
            arena->next = at + size;
            return at;
        }
    }
    return vmem_grow_push_more(arena, size, align);
}

/* vmem_grow_push of zeros: only what was in use before is overwritten, as fresh memory is zero. */
static inline void *vmem_grow_push_zeroed(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

/* How many bytes are in use, padding included; for vmem_grow_pop_to. `arena` is initialized. Never fails. */
static inline VMemSize vmem_grow_mark(const VMemGrowArena *arena)
{
    return LIBPALLOC_CAST_(VMemSize, arena->next - arena->mem);
}

#undef LIBPALLOC_CAST_
#undef LIBPALLOC_ADDRESS_

/* What programs rely on. */
typedef char vmem_layout_is_as_documented_[
    sizeof(VMemProtect) == 1 && sizeof(VMemResult) == 4 && sizeof(VMemUsageStatus) == 2 * sizeof(void *) &&
    sizeof(VMemArena) == 3 * sizeof(void *) && sizeof(VMemRangeInfo) == 3 * sizeof(void *) &&
    sizeof(VMemGrowArena) == 7 * sizeof(void *) ? 1 : -1];
