/* As in palloc.h: what went wrong in the last call that failed in this thread. Never NULL. */
const char *palloc_error(void);

/* The documented names. */
#define palloc_open palloc_fd_open
#define palloc_init palloc_fd_init
#define palloc_close palloc_fd_close
#define palloc palloc_fd_alloc
#define pfree palloc_fd_free
#define palloc_size palloc_fd_size
#define palloc_next palloc_fd_next
