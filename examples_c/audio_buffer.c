/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An audio player uses all free memory for its buffer, and gives back as much as others need: its shrink callback keeps the part that is
 * still to be played.
 */
#include <buflib.h>
#include <stdio.h>
#include <string.h>

static char memory[256 * 1024];
static struct buflib_context pool;

static struct {
    int handle;
    size_t size;   /* bytes of the buffer */
    size_t filled; /* bytes from its start that are still to be played */
} audio;

/* A real player would stop its DMA in sync_callback, which is called before and after a move. */
static int move(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    return BUFLIB_CB_OK;
}

static int shrink(int handle, unsigned hints, void *start, size_t old_size)
{
    size_t wanted = hints & BUFLIB_SHRINK_SIZE_MASK;
    size_t keep = old_size > wanted ? old_size - wanted : 0;

    if (keep < audio.filled)
        keep = audio.filled;
    if (keep >= old_size || !buflib_shrink(&pool, handle, start, keep))
        return BUFLIB_CB_CANNOT_SHRINK;
    printf("  the player gives back %u KiB\n", (unsigned)((old_size - keep) >> 10));
    audio.size = keep;
    return BUFLIB_CB_OK;
}

static struct buflib_callbacks audio_ops = { move, shrink, NULL };

int main(void)
{
    int playlist, picture;

    buflib_init(&pool, memory, sizeof memory);
    playlist = buflib_alloc_ex(&pool, 10000, "playlist", NULL);
    audio.handle = buflib_alloc_maximum(&pool, "audio", &audio.size, &audio_ops);
    if (playlist < 0 || audio.handle < 0)
        return 1;
    printf("the player starts with %u KiB\n", (unsigned)(audio.size >> 10));
    audio.filled = 100000;
    memset(buflib_get_data(&pool, audio.handle), 'p', audio.filled);

    puts("a picture of 100 KiB is loaded");
    picture = buflib_alloc_ex(&pool, 100 * 1024, "picture", NULL);
    if (picture < 0)
        return 1;
    printf("the player has %u KiB left, with what it had to play\n", (unsigned)(audio.size >> 10));

    puts("one of 200 KiB is too large");
    if (buflib_alloc_ex(&pool, 200 * 1024, "large picture", NULL) > 0)
        return 1;

    for (size_t i = 0; i < audio.filled; i++)
        if (((char *)buflib_get_data(&pool, audio.handle))[i] != 'p')
            return 1;
    buflib_free(&pool, picture);
    buflib_free(&pool, audio.handle);
    printf("%u KiB are free again\n", (unsigned)(buflib_available(&pool) >> 10));
    return 0;
}
