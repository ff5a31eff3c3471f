/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A linked structure in a file: a sorted list of numbers that grows and shrinks from run to run.
 *
 *     linked_list [FILE]       FILE is list.db if it is not given
 *
 * Three things to learn from it:
 *
 * Links are offsets. Addresses differ from run to run, offsets do not; palloc_data() turns one into the other.
 *
 * palloc_root() makes the root before any other blob, so it is the first one of the medium for good.
 *
 * Each change is a transaction: a node is allocated, filled and linked in, or taken out and freed, in one step. A kill at any moment
 * leaves a list that is whole, and no blob that nothing leads to. (To have the same after a power cut, open it with PALLOC_SYNC too.)
 */
#include <palloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the byte order of this machine: choose one, if the file is to travel. */
struct root {
    uint64_t first; /* offset of the first node, 0 = none */
    uint64_t runs;
};

struct node {
    uint64_t next; /* offset, 0 = none */
    uint64_t number;
};

static void fail(void)
{
    fprintf(stderr, "%s\n", palloc_error());
    exit(1);
}

static void *at(struct palloc_t *pt, uint64_t offset)
{
    void *data = palloc_data(pt, offset);

    if (data == NULL)
        fail();
    return data;
}

static void must(int good)
{
    if (!good)
        fail();
}

/* By the commit, the 8 bytes at `place` become the offset. */
static void set_link(struct palloc_tx *tx, uint64_t place, uint64_t offset)
{
    must(palloc_tx_store(tx, place, &offset, sizeof offset) == 0);
}

static void insert(struct palloc_t *pt, uint64_t root, uint64_t number)
{
    struct palloc_tx *tx = palloc_begin(pt);
    uint64_t place = root + offsetof(struct root, first), next = ((struct root *)at(pt, root))->first, offset;
    struct node *node;

    while (next != 0 && ((struct node *)at(pt, next))->number < number) {
        place = next + offsetof(struct node, next);
        next = ((struct node *)at(pt, next))->next;
    }
    must(tx != NULL);
    offset = palloc_tx_alloc(tx, sizeof *node);
    must(offset != 0);
    node = palloc_tx_data(tx, offset); /* nobody sees it before the commit */
    node->number = number;
    node->next = next;
    set_link(tx, place, offset);
    must(palloc_commit(tx) == 0);
}

static void delete_first(struct palloc_t *pt, uint64_t root)
{
    struct palloc_tx *tx = palloc_begin(pt);
    uint64_t offset = ((struct root *)at(pt, root))->first;

    must(tx != NULL);
    set_link(tx, root + offsetof(struct root, first), ((struct node *)at(pt, offset))->next);
    must(palloc_tx_free(tx, offset) == 0);
    must(palloc_commit(tx) == 0);
}

int main(int argc, char **argv)
{
    struct palloc_t *pt = palloc_init(argc > 1 ? argv[1] : "list.db", PALLOC_DYNAMIC);
    uint64_t root_offset, node;
    struct root *root;
    int i, length = 0;

    if (pt == NULL)
        fail();
    root_offset = palloc_root(pt, sizeof(struct root));
    must(root_offset != 0);
    root = at(pt, root_offset);
    root->runs++;
    printf("run %llu\n", (unsigned long long)root->runs);

    for (i = 0; i < 5; i++)
        insert(pt, root_offset, (root->runs * 37 + (uint64_t)i * 29) % 100);
    for (node = root->first; node != 0; node = ((struct node *)at(pt, node))->next)
        length++;
    for (; length > 12; length--)
        delete_first(pt, root_offset);

    for (node = root->first; node != 0; node = ((struct node *)at(pt, node))->next)
        printf("%llu at offset %llu\n", (unsigned long long)((struct node *)at(pt, node))->number, (unsigned long long)node);
    palloc_close(pt);
    return 0;
}
