/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Notes that outlive the program: each run finds those of earlier runs and adds one.
 *
 *     quickstart [FILE]        FILE is notes.db if it is not given
 */
#include <palloc.h>
#include <stdio.h>
#include <string.h>

/* Prints the error: palloc_error() names the function, the file and the reason. */
static int failed(void)
{
    fprintf(stderr, "%s\n", palloc_error());
    return 1;
}

int main(int argc, char **argv)
{
    const char *file = argc > 1 ? argv[1] : "notes.db";
    struct palloc_t *pt;
    char text[64], *note;
    uint64_t ptr;
    int count = 0;

    /* Opens the medium in the file, or makes one. DYNAMIC: it grows with its blobs. */
    pt = palloc_init(file, PALLOC_DYNAMIC);
    if (pt == NULL)
        return failed();

    /* The name of a blob is its offset in the file, which is the same in every run. This loop visits all blobs. */
    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
        note = palloc_data(pt, ptr); /* the address of its bytes; pread() on pt->descriptor would read them too */
        if (note == NULL)
            return failed();
        printf("found at offset %4llu: %.*s\n", (unsigned long long)ptr, (int)palloc_size(pt, ptr), note);
        count++;
    }
    if (count == 0)
        printf("%s holds no notes yet\n", file);

    /* A new blob. When palloc() has returned, a kill of this program does not lose it. The program writes its bytes. */
    snprintf(text, sizeof text, "this is note number %d", count + 1);
    ptr = palloc(pt, strlen(text) + 1);
    if (ptr == 0)
        return failed();
    note = palloc_data(pt, ptr);
    if (note == NULL)
        return failed();
    strcpy(note, text); /* or: pwrite(pt->descriptor, text, strlen(text) + 1, ptr) */
    printf("added at offset %4llu: %s\n", (unsigned long long)ptr, text);

    /* palloc_sync() here would wait until the note is on the disk. palloc_close() leaves that to the operating system. */
    palloc_close(pt);
    return 0;
}
