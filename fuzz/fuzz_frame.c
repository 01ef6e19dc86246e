/* fuzz_frame: every decoder of src/wire/frame.h, fed with anything.
 *
 *   CC=clang meson setup build-fuzz -Dfuzz=true
 *   ninja -C build-fuzz fuzz/fuzz_frame
 *   build-fuzz/fuzz/fuzz_frame -max_len=70000 fuzz/corpus/frame
 *
 * The first byte says which decoder: 0 and 255 a whole frame, else a payload of
 * that type. Beside "no bad access": what a decoder
 * takes, the encoder gives back byte for byte, and every number that the
 * receiver relies on holds. */
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* On failure: a negative number, a class and words. */
static void failed_well(int rc, const struct gw_err *e)
{
	must(rc < 0 && e->class == GW_PEER && e->text[0] && e->err == -rc);
}

static uint64_t check_runs(const uint8_t *at, uint32_t nruns, struct gw_run *out)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < nruns; i++) {
		gw_run_unpack(at, i, &out[i]);
		must(out[i].addr % GW_PAGE == 0 && out[i].npages);
		must(out[i].addr + (uint64_t)out[i].npages * GW_PAGE <= UINT64_C(1) << 57);
		if (!(out[i].flags & GW_RUN_ZERO))
			bytes += (uint64_t)out[i].npages * GW_PAGE;
	}
	return bytes;
}

static void pages(const uint8_t *p, size_t len)
{
	static struct gw_run runs[GW_RUNS_MAX];
	static uint8_t again[GW_PAGES_HDR_BYTES + GW_RUNS_MAX * GW_RUN_BYTES];
	struct gw_pages_hdr h;
	struct gw_err e = {0};
	size_t at;
	int rc = gw_pages_unpack(p, len, &h, &at, &e);
	if (rc < 0) {
		failed_well(rc, &e);
		return;
	}
	must(at <= len && h.nruns <= GW_RUNS_MAX && h.raw_bytes <= GW_PAGES_RAW_MAX && h.space);
	must(check_runs(p + GW_PAGES_HDR_BYTES, h.nruns, runs) == h.raw_bytes);
	must(h.codec == GW_CODEC_ZSTD ? len - at < h.raw_bytes : len - at == h.raw_bytes);
	must(gw_pages_pack(&h, runs, again) == at && memcmp(again, p, at) == 0);
}

static void drop(const uint8_t *p, size_t len)
{
	static struct gw_run runs[GW_RUNS_MAX];
	static uint8_t again[8 + GW_RUNS_MAX * GW_RUN_BYTES];
	struct gw_pages_hdr h;
	struct gw_err e = {0};
	int rc = gw_drop_unpack(p, len, &h, &e);
	if (rc < 0) {
		failed_well(rc, &e);
		return;
	}
	(void)check_runs(p + 8, h.nruns, runs);
	must(gw_drop_pack(h.space, runs, h.nruns, again) == len && memcmp(again, p, len) == 0);
}

static void file(const uint8_t *p, size_t len)
{
	uint8_t again[16 + 256];
	struct gw_file_hdr h;
	struct gw_err e = {0};
	size_t at;
	int rc = gw_file_unpack(p, len, &h, &at, &e);
	if (rc < 0) {
		failed_well(rc, &e);
		return;
	}
	must(at <= len && h.offset + (len - at) <= INT64_MAX);
	must(strlen(h.name) && !strchr(h.name, '/') && strcmp(h.name, ".") && strcmp(h.name, ".."));
	must(gw_file_pack(&h, again) == at && memcmp(again, p, at) == 0);
}

static void barrier(const uint8_t *p, size_t len)
{
	uint64_t number;
	uint8_t again[GW_BARRIER_BYTES];
	struct gw_err e = {0};
	int rc = gw_barrier_unpack(p, len, &number, &e);
	if (rc < 0) {
		failed_well(rc, &e);
		return;
	}
	gw_barrier_pack(number, again);
	must(len == GW_BARRIER_BYTES && memcmp(again, p, len) == 0);
}

static void payload(uint8_t type, const uint8_t *p, size_t len)
{
	switch (type) {
	case GW_F_PAGES: pages(p, len); break;
	case GW_F_DROP: drop(p, len); break;
	case GW_F_FILE: file(p, len); break;
	case GW_F_BARRIER:
	case GW_F_BARRIER_ACK: barrier(p, len); break;
	default: break;
	}
}

static void frame(const uint8_t *p, size_t len)
{
	struct gw_frame_hdr h;
	struct gw_err e = {0};
	if (len < GW_FRAME_HDR_BYTES)
		return;
	int rc = gw_frame_unpack(p, &h, &e);
	if (rc < 0) {
		failed_well(rc, &e);
		return;
	}
	uint8_t again[GW_FRAME_HDR_BYTES];
	gw_frame_pack(&h, again);
	must(memcmp(again, p, sizeof(again)) == 0);
	must(h.length >= gw_frame_min(h.type) && h.length <= gw_frame_max(h.type));
	payload(h.type, p + GW_FRAME_HDR_BYTES, len - GW_FRAME_HDR_BYTES);
}

/* The same with the checksum made right, which no mutation would find. */
static void sealed_frame(uint8_t *p, size_t len)
{
	struct gw_frame_hdr h = {.type = p[3]};
	memcpy(&h.length, p + 4, sizeof(h.length));
	memcpy(&h.serial, p + 8, sizeof(h.serial));
	gw_frame_pack(&h, p);
	frame(p, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	/* An allocation that ends where the input ends, empty ones included. */
	size_t len = size - 1;
	gw_auto(mem) uint8_t *p = malloc(len);
	must(p || !len);
	if (len)
		memcpy(p, data + 1, len);
	if (data[0] == 0)
		frame(p, len);
	else if (data[0] == 255 && len >= GW_FRAME_HDR_BYTES)
		sealed_frame(p, len);
	else
		payload(data[0], p, len);
	return 0;
}
