/* Memory for libraft. It does not survive an allocation that fails: at the start it frees what it
 * never set, in a step its state is undefined afterwards. So none fails: the process ends instead,
 * with nothing half done on disk. */
#include <stdlib.h>

#include "consensus/core_private.h"
#include "tessera/base/assert.h"

static void *given(void *memory, size_t size)
{
    if (memory == NULL && size > 0) {
        tsr_out_of_memory();
    }
    return memory;
}

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    return given(malloc(size), size);
}

static void heap_free(void *data, void *memory)
{
    (void)data;
    free(memory);
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    return given(calloc(count, size), count * size);
}

static void *heap_realloc(void *data, void *memory, size_t size)
{
    (void)data;
    return given(realloc(memory, size), size);
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return given(aligned_alloc(alignment, size), size);
}

static void heap_aligned_free(void *data, size_t alignment, void *memory)
{
    (void)data;
    (void)alignment;
    free(memory);
}

void core_heap(void)
{
    static struct raft_heap heap = {.malloc = heap_malloc,
                                    .free = heap_free,
                                    .calloc = heap_calloc,
                                    .realloc = heap_realloc,
                                    .aligned_alloc = heap_aligned_alloc,
                                    .aligned_free = heap_aligned_free};
    raft_heap_set(&heap);
}
