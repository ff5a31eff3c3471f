/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A cache of records in a fixed amount of memory. Records have different sizes and are deleted at any time. If a new record does not fit,
 * the allocator moves the others together, so no memory is lost between them. If it still does not fit, the oldest record is deleted.
 */
#include <buflib.h>
#include <stdio.h>
#include <string.h>

#define RECORDS 64

static char memory[4096];
static struct buflib_context pool;
static int cache[RECORDS]; /* handles, the oldest first */
static int count, evicted, moved;

/* Called before a record moves; BUFLIB_CB_CANNOT_MOVE would prevent the move. */
static int may_move(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    moved++;
    return BUFLIB_CB_OK;
}

static struct buflib_callbacks record_ops = { may_move, NULL, NULL };

static void evict(int at)
{
    buflib_free(&pool, cache[at]);
    memmove(&cache[at], &cache[at + 1], (size_t)(--count - at) * sizeof cache[0]);
    evicted++;
}

static void put(const char *key, char letter, size_t size)
{
    int handle;
    char *data;

    if (count == RECORDS)
        evict(0);
    while ((handle = buflib_alloc_ex(&pool, size, key, &record_ops)) < 0 && count > 0)
        evict(0);
    if (handle < 0)
        return;
    data = buflib_get_data(&pool, handle);
    memset(data, letter, size - 1);
    data[size - 1] = '\0';
    cache[count++] = handle;
}

/* The address is valid until the next put, which may move the record. */
static const char *get(const char *key)
{
    for (int i = 0; i < count; i++)
        if (strcmp(buflib_get_name(&pool, cache[i]), key) == 0)
            return buflib_get_data(&pool, cache[i]);
    return NULL;
}

int main(void)
{
    char key[16];
    const char *record;

    buflib_init(&pool, memory, sizeof memory);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "record %d", i);
        put(key, (char)('a' + i % 26), (size_t)(20 + i * 37 % 300));
        if (i % 3 == 0 && count > 4)
            evict(count / 2); /* deletes a record in the middle */
    }
    record = get("record 199");
    if (record == NULL || !buflib_check(&pool, NULL, NULL))
        return 1;
    printf("the newest record: %.20s...\n", record);
    printf("%d records now; %d were deleted or had to go, %d were moved to make room\n", count, evicted, moved);
    return 0;
}
