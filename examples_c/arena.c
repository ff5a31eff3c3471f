/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A growing arena. One call frees everything that a job has pushed; a mark frees scratch memory within the job. Pushed memory never moves,
 * so the words can point to each other.
 */
#include <stdio.h>
#include <string.h>
#include <vmem.h>

struct word {
    const char *text;
    unsigned count;
    struct word *next;
};

static const char text[] = "the quick brown fox jumps over the lazy dog and the dog sleeps on";

/* Counts the words of the text. Returns a list, the last new word first; NULL if memory runs out. */
static struct word *count_words(VMemGrowArena *arena)
{
    struct word *words = NULL;
    const char *from = text;

    while (*from != '\0') {
        size_t len = strcspn(from, " ");
        VMemSize mark = vmem_grow_mark(arena);
        char *copy = (char *)vmem_grow_push_zeroed(arena, len + 1, 1);
        struct word *word;

        if (copy == NULL)
            return NULL;
        memcpy(copy, from, len);
        for (word = words; word != NULL && strcmp(word->text, copy) != 0; word = word->next)
            ;
        if (word != NULL) {
            vmem_grow_pop_to(arena, mark); /* the word is in the list already: frees the copy */
        } else {
            word = (struct word *)vmem_grow_push_zeroed(arena, sizeof *word, sizeof(void *));
            if (word == NULL)
                return NULL;
            word->text = copy;
            word->next = words;
            words = word;
        }
        word->count++;
        from += len + (from[len] == ' ');
    }
    return words;
}

int main(void)
{
    VMemGrowArena arena;
    const struct word *word;
    int job;

    if (!vmem_grow_init(&arena, (VMemSize)1 << 30, 0)) { /* at most 1 GiB; memory is committed as the arena grows */
        fprintf(stderr, "%s\n", vmem_get_error_message());
        return 1;
    }
    for (job = 1; job <= 3; job++) {
        word = count_words(&arena);
        if (word == NULL) {
            fprintf(stderr, "%s\n", vmem_get_error_message());
            return 1;
        }
        printf("job %d:", job);
        for (; word != NULL; word = word->next)
            if (word->count > 1)
                printf(" %s %u", word->text, word->count);
        putchar('\n');
        vmem_grow_pop_to(&arena, 0); /* the next job starts with an empty arena, whose memory stays committed */
    }
    return !vmem_grow_deinit(&arena);
}
