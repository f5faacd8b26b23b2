/* Writes down what a process does to the files below one directory: LD_PRELOAD it.

   SEALIFT_OPS   the file that the operations go to, in the order in which they took place, those of child processes too
   SEALIFT_ROOT  the directory, without symbolic links
   SEALIFT_KILL  after so many operations of this process it kills itself; workers (`python -m sealift.crew`) do not

   The record is read by recording.py, which says what it looks like. An operation and its record are one step for all
   threads and processes (flock), a sync is two records: it covers what was recorded before it began. Writes through
   memory maps are not seen: SQLite has them in its -shm file only, which a power loss voids anyway. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, MKDIR, WRITE, TRUNCATE, ALLOCATE, UTIME, RENAME, UNLINK, LINK, SYNC, SYNC_FS, SYNCED };

struct head {
    uint8_t op;
    uint64_t a, b, c;
    uint32_t first, second;
} __attribute__((packed));

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static int ops = -1;
static char root[PATH_MAX];
static size_t root_length;
static long left = -1; /* operations until it kills itself */

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SEALIFT_OPS"), *where = getenv("SEALIFT_ROOT"), *most = getenv("SEALIFT_KILL");
    if (!path || !where)
        return;
    snprintf(root, sizeof root, "%s", where);
    root_length = strlen(root);
    ops = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (ops >= 0) { /* out of the way of a process that counts on small numbers */
        int high = fcntl(ops, F_DUPFD_CLOEXEC, 900);
        syscall(SYS_close, ops);
        ops = high;
    }
    char arguments[4096] = "";
    int about = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    ssize_t size = syscall(SYS_read, about, arguments, sizeof arguments);
    syscall(SYS_close, about);
    static const char worker[] = "sealift.crew"; /* as a whole argument */
    if (most && size > 0 && !memmem(arguments, size, worker, sizeof worker))
        left = atol(most);
}

static int lies_below(const char *path)
{
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* Whether a descriptor is of something below the root. */
static int ours(int fd)
{
    char link[64], path[PATH_MAX];
    if (ops < 0 || fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return lies_below(path);
}

static uint64_t number(int fd)
{
    struct stat about;
    return fstat(fd, &about) ? 0 : about.st_ino;
}

/* Where a path leads: the number of its directory, 0 where that is none of ours, and the name in it. */
static uint64_t place(int directory, const char *path, const char **name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (ops < 0 || (!slash && directory == AT_FDCWD))
        return 0;
    if (!slash)
        return ours(directory) ? number(directory) : 0;
    snprintf(parent, sizeof parent, "%.*s", (int)(slash == path ? 1 : slash - path), path);
    int fd = syscall(SYS_openat, directory, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    uint64_t found = ours(fd) ? number(fd) : 0;
    if (fd >= 0)
        syscall(SYS_close, fd);
    return found;
}

static void enter(void)
{
    pthread_mutex_lock(&one);
    if (ops >= 0)
        flock(ops, LOCK_EX);
}

static void leave(void)
{
    int before = errno;
    if (ops >= 0)
        flock(ops, LOCK_UN);
    pthread_mutex_unlock(&one);
    errno = before;
}

static void put(uint8_t op, uint64_t a, uint64_t b, uint64_t c, const void *first, uint32_t size, const char *second)
{
    int before = errno;
    struct head head = { op, a, b, c, size, second ? strlen(second) : 0 };
    struct iovec all[] = { { &head, sizeof head }, { (void *)first, size }, { (void *)second, head.second } };
    if (syscall(SYS_writev, ops, all, 3) != (ssize_t)(sizeof head + size + head.second))
        abort();
    if (left > 0 && !--left)
        kill(getpid(), SIGKILL);
    errno = before;
}

/* ── Names ── */

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    const char *name;
    if (ops < 0 || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return syscall(SYS_openat, directory, path, flags, mode);
    enter();
    uint64_t where = place(directory, path, &name);
    struct stat about;
    int is_new = where && fstatat(directory, path, &about, AT_SYMLINK_NOFOLLOW);
    int fd = syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && where) {
        if (is_new)
            put(CREATE, where, number(fd), 0, name, strlen(name), NULL);
        else if (flags & O_TRUNC)
            put(TRUNCATE, number(fd), 0, 0, NULL, 0, NULL);
    }
    leave();
    return fd;
}

#define MODE(flags)                     \
    mode_t mode = 0;                    \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list rest;                   \
        va_start(rest, flags);          \
        mode = va_arg(rest, mode_t);    \
        va_end(rest);                   \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }

int mkdirat(int directory, const char *path, mode_t mode)
{
    const char *name;
    enter();
    uint64_t where = place(directory, path, &name);
    int result = syscall(SYS_mkdirat, directory, path, mode);
    struct stat about;
    if (!result && where && !fstatat(directory, path, &about, AT_SYMLINK_NOFOLLOW))
        put(MKDIR, where, about.st_ino, 0, name, strlen(name), NULL);
    leave();
    return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int renameat2(int from, const char *source, int to, const char *target, unsigned int flags)
{
    const char *name, *other;
    enter();
    uint64_t here = place(from, source, &name), there = place(to, target, &other);
    struct stat about = { 0 };
    fstatat(from, source, &about, AT_SYMLINK_NOFOLLOW);
    int result = syscall(SYS_renameat2, from, source, to, target, flags);
    if (!result && (here || there))
        put(RENAME, here, there, about.st_ino, name, strlen(name), other);
    leave();
    return result;
}

int renameat(int from, const char *source, int to, const char *target) { return renameat2(from, source, to, target, 0); }
int rename(const char *source, const char *target) { return renameat2(AT_FDCWD, source, AT_FDCWD, target, 0); }

int linkat(int from, const char *source, int to, const char *target, int flags)
{
    const char *name;
    enter();
    uint64_t where = place(to, target, &name);
    int result = syscall(SYS_linkat, from, source, to, target, flags);
    struct stat about;
    if (!result && where && !fstatat(to, target, &about, AT_SYMLINK_NOFOLLOW))
        put(LINK, where, about.st_ino, 0, name, strlen(name), NULL);
    leave();
    return result;
}

int link(const char *source, const char *target) { return linkat(AT_FDCWD, source, AT_FDCWD, target, 0); }

int unlinkat(int directory, const char *path, int flags)
{
    const char *name;
    enter();
    uint64_t where = place(directory, path, &name);
    int result = syscall(SYS_unlinkat, directory, path, flags);
    if (!result && where)
        put(UNLINK, where, 0, 0, name, strlen(name), NULL);
    leave();
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

/* ── Bytes ── */

static ssize_t wrote(int fd, const struct iovec *pieces, int count, off_t offset)
{
    if (!ours(fd))
        return offset < 0 ? syscall(SYS_writev, fd, pieces, count) : syscall(SYS_pwritev, fd, pieces, count, offset, 0);
    enter();
    off_t at = offset;
    if (offset < 0) {
        struct stat about;
        int flags = fcntl(fd, F_GETFL);
        at = flags & O_APPEND && !fstat(fd, &about) ? about.st_size : lseek(fd, 0, SEEK_CUR);
    }
    ssize_t size = offset < 0 ? syscall(SYS_writev, fd, pieces, count) : syscall(SYS_pwritev, fd, pieces, count, offset, 0);
    size_t rest = size > 0 ? size : 0;
    for (int piece = 0; piece < count && rest; piece++) {
        size_t some = pieces[piece].iov_len < rest ? pieces[piece].iov_len : rest;
        if (some)
            put(WRITE, number(fd), at, 0, pieces[piece].iov_base, some, NULL);
        at += some;
        rest -= some;
    }
    leave();
    return size;
}

#define ONE(data, size) (&(struct iovec){ (void *)(data), (size) }), 1

ssize_t write(int fd, const void *data, size_t size)
{
    return ops < 0 || !ours(fd) ? syscall(SYS_write, fd, data, size) : wrote(fd, ONE(data, size), -1);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) { return wrote(fd, pieces, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return wrote(fd, ONE(data, size), offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return wrote(fd, ONE(data, size), offset); }
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) { return wrote(fd, pieces, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off_t offset) { return wrote(fd, pieces, count, offset); }

static int resized(int fd, off_t size, int op, int mode)
{
    int is_ours = ours(fd);
    enter();
    int result = op == TRUNCATE ? syscall(SYS_ftruncate, fd, size) : syscall(SYS_fallocate, fd, mode, 0, size);
    if (!result && is_ours)
        put(op, number(fd), size, 0, NULL, 0, NULL);
    leave();
    return result;
}

int ftruncate(int fd, off_t size) { return resized(fd, size, TRUNCATE, 0); }
int ftruncate64(int fd, off_t size) { return resized(fd, size, TRUNCATE, 0); }
int fallocate(int fd, int mode, off_t offset, off_t size) { return resized(fd, offset + size, ALLOCATE, mode); }
int fallocate64(int fd, int mode, off_t offset, off_t size) { return resized(fd, offset + size, ALLOCATE, mode); }

int futimens(int fd, const struct timespec times[2])
{
    int is_ours = ours(fd);
    enter();
    int result = syscall(SYS_utimensat, fd, NULL, times, 0);
    if (!result && is_ours)
        put(UTIME, number(fd), times[1].tv_sec * 1000000000ull + times[1].tv_nsec, 0, NULL, 0, NULL);
    leave();
    return result;
}

/* ── Barriers ── */

static int synced(int fd, int op, long call, int with_times)
{
    static uint64_t syncs;
    int is_ours = ours(fd);
    uint64_t mine = 0;
    if (is_ours) {
        enter();
        mine = (uint64_t)getpid() << 32 | ++syncs;
        put(op, number(fd), mine, with_times, NULL, 0, NULL);
        leave();
    }
    int result = syscall(call, fd);
    if (is_ours && !result) {
        enter();
        put(SYNCED, 0, mine, 0, NULL, 0, NULL);
        leave();
    }
    return result;
}

int fdatasync(int fd) { return synced(fd, SYNC, SYS_fdatasync, 0); }
int fsync(int fd) { return synced(fd, SYNC, SYS_fsync, 1); }
int syncfs(int fd) { return synced(fd, SYNC_FS, SYS_syncfs, 1); }
