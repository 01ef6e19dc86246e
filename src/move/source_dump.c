/* source_dump: what goes to the destination in the freeze: CRIU's images, and
 * beside their making the last pages and the files of a pod. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "ckpt/criu.h"
#include "move/msg.h"
#include "move/source_priv.h"

enum { IMAGE_PIECE = 512 * 1024, EARLY_EVERY_MS = 1, EARLY_MAX = 1 << 16, LATE_MAX = 16 << 20 };

/* ---- images ---- */

struct images {
	struct gw_source *s;
	DIR *dir;
	uint8_t *piece;
};

static int open_images(struct gw_source *s, struct images *out, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_path(path, sizeof(path), "%s/images", s->dir);
	*out = (struct images){.s = s, .dir = opendir(path), .piece = malloc(IMAGE_PIECE)};
	return out->dir && out->piece ? 0 : gw_fail(e, GW_SYS, errno, "open %s", path);
}

static void gw_end_images(struct images *i)
{
	if (i->dir)
		(void)closedir(i->dir);
	free(i->piece);
}

/* How far an image of pages has gone, by its number, which CRIU counts from 1; NULL: it is
 * none, or no memory: it goes when the dump has ended. */
static uint64_t *sent_of(struct gw_source *s, const char *name)
{
	unsigned n;
	int len = 0;
	if (sscanf(name, "pages-%u.img%n", &n, &len) != 1 || !len || name[len] || n >= EARLY_MAX)
		return NULL;
	if (n >= s->nearly) {
		size_t more = n * 2 + 16;
		uint64_t *p = realloc(s->early, more * sizeof(*p));
		if (!p)
			return NULL;
		memset(p + s->nearly, 0, (more - s->nearly) * sizeof(*p));
		s->early = p;
		s->nearly = more;
	}
	return &s->early[n];
}

/* From *inout_at to its end, which is_whole says is the end for good. */
static int send_image(struct images *im, const char *name, bool is_whole, uint64_t *inout_at, struct gw_err *e)
{
	gw_auto(fd) int fd = openat(dirfd(im->dir), name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return gw_fail(e, GW_SYS, errno, "open image %s", name);
	struct gw_file_hdr h = {.mode = (uint32_t)st.st_mode & 07777, .offset = *inout_at};
	gw_path(h.name, sizeof(h.name), "%s", name);
	while (is_whole || h.offset < (uint64_t)st.st_size) {
		ssize_t n = pread(fd, im->piece, IMAGE_PIECE, (off_t)h.offset);
		if (n < 0)
			return gw_fail(e, GW_SYS, errno, "read image %s", name);
		if (n == 0 && h.offset < (uint64_t)st.st_size)
			return gw_fail(e, GW_SYS, EIO, "image %s became shorter while it was sent", name);
		h.flags = is_whole && h.offset + (uint64_t)n >= (uint64_t)st.st_size ? GW_FILE_LAST : 0;
		uint8_t head[16 + 256];
		struct iovec v[2] = {{.iov_base = head, .iov_len = gw_file_pack(&h, head)},
		                     {.iov_base = im->piece, .iov_len = (size_t)n}};
		int rc = gw_conn_send(im->s->ctl, GW_F_FILE, v, 2, e);
		if (rc < 0)
			return rc;
		h.offset += (uint64_t)n;
		*inout_at = h.offset;
		if (h.flags & GW_FILE_LAST)
			break;
	}
	return 0;
}

/* Pages that are CRIU's (private ones of mapped files, most of all images' bytes) are
 * written one after the other and never again, early in the dump. */
static int send_early(struct images *im, struct gw_err *e)
{
	int rc = 0;
	rewinddir(im->dir);
	for (struct dirent *de; rc == 0 && (de = readdir(im->dir));) {
		struct stat st;
		uint64_t *sent = sent_of(im->s, de->d_name);
		if (sent && fstatat(dirfd(im->dir), de->d_name, &st, 0) == 0 && (uint64_t)st.st_size > *sent)
			rc = send_image(im, de->d_name, false, sent, e);
	}
	return rc;
}

/* What is left of them. */
static int send_images(struct images *im, uint64_t *out_bytes, struct gw_err *e)
{
	int rc = 0;
	for (struct dirent *de; rc == 0 && (de = readdir(im->dir));) {
		if (de->d_name[0] == '.' || !strcmp(de->d_name, "descriptors.json"))
			continue;
		uint64_t none = 0, *at = sent_of(im->s, de->d_name);
		at = at ? at : &none;
		rc = send_image(im, de->d_name, true, at, e);
		*out_bytes += *at;
	}
	return rc;
}

int gw_source_images(struct gw_source *s, struct gw_err *e)
{
	gw_auto(images) struct images im = {0};
	uint64_t bytes = 0;
	int rc = open_images(s, &im, e);
	if (rc == 0)
		rc = send_images(&im, &bytes, e);
	struct gw_facts_of_run *f = gw_progress_edit(s->progress);
	f->image_bytes = bytes;
	gw_progress_done(s->progress);
	if (rc < 0)
		return rc;
	/* A restore asks for its ends of unix connections. */
	if (s->member && (rc = gw_group_wait(s->group, GW_GROUP_LINKED, 1, e)) < 0)
		return rc;
	struct gw_msg m = gw_msg_new("images-whole");
	if (s->pids_from)
		yyjson_mut_obj_add_int(m.doc, m.root, "pids_from", s->pids_from);
	return gw_msg_send(s->ctl, &m, e);
}

/* ---- the dump, and what goes beside it ---- */

struct dump_job {
	struct gw_source *s;
	int ended; /* eventfd */
	int rc;
	struct gw_err e;
};

static void *dump_main(void *arg)
{
	struct dump_job *j = arg;
	uint64_t t0 = gw_now_us();
	j->rc = gw_dump_go(j->s->dump, &j->e);
	gw_source_step_time(j->s, GW_STEP_DUMP, t0);
	(void)eventfd_write(j->ended, 1);
	return NULL;
}

struct files_job {
	struct gw_source *s;
	int rc;
	struct gw_err e;
};

static void *files_main(void *arg)
{
	struct files_job *j = arg;
	j->rc = gw_source_files(j->s, true, &j->e);
	return NULL;
}

static int send_while_dumping(struct gw_source *s, int ended, struct gw_err *e)
{
	gw_auto(images) struct images im = {0};
	struct pollfd p = {.fd = ended, .events = POLLIN};
	int rc = open_images(s, &im, e);
	while (rc == 0 && poll(&p, 1, EARLY_EVERY_MS) == 0)
		rc = send_early(&im, e);
	return rc;
}

/* Pages that the kernel wrote to when CRIU interrupted who slept: after the last look. */
static int send_late(struct gw_source *s, struct gw_err *e)
{
	char path[PATH_MAX + 16];
	gw_auto(mem) char *list = NULL;
	size_t len = 0;
	gw_path(path, sizeof(path), "%s/shim/late", s->dir);
	int rc = gw_read_file(path, LATE_MAX, &list, &len, e);
	if (rc == -ENOENT)
		return 0;
	for (size_t at = 0; rc == 0 && at + 2 * sizeof(uint64_t) <= len; at += 2 * sizeof(uint64_t)) {
		uint64_t late[2]; /* process, address of a struct timespec */
		memcpy(late, list + at, sizeof(late));
		rc = gw_source_again(s, (pid_t)late[0], late[1], sizeof(struct timespec), e);
	}
	return rc < 0 ? rc : gw_sender_barrier(s->sender, NULL, e);
}

/* CRIU dumps in one thread while the last pages go in another (this one: the
 * tracker belongs to it). */
int gw_source_dump(struct gw_source *s, struct gw_err *e)
{
	gw_auto(fd) int ended = eventfd(0, EFD_CLOEXEC);
	struct dump_job job = {.s = s, .ended = ended};
	struct files_job files = {.s = s};
	pthread_t t, ft;
	s->nearly = 0; /* of another dump */
	int rc = ended < 0 ? errno : pthread_create(&t, NULL, dump_main, &job);
	if (rc != 0)
		return gw_fail(e, GW_SYS, rc, "start the dump's thread");
	bool beside = s->trees.n && pthread_create(&ft, NULL, files_main, &files) == 0;
	uint64_t dirty, t0 = gw_now_us();
	rc = gw_source_round(s, true, &dirty, e);
	gw_source_step_time(s, GW_STEP_LAST_PAGES, t0);
	if (rc == 0)
		rc = send_while_dumping(s, ended, e);
	if (beside)
		pthread_join(ft, NULL);
	else
		files_main(&files);
	pthread_join(t, NULL);
	if (rc == 0 && (job.rc < 0 || files.rc < 0)) {
		*e = job.rc < 0 ? job.e : files.e;
		rc = job.rc < 0 ? job.rc : files.rc;
	}
	return rc < 0 ? rc : send_late(s, e);
}
