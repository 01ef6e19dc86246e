#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "cni/record.h"
#include "plug.h"

#define DIR_ "/run/ipam"
static struct gw_err e;
static const struct gw_ipam_owner me = {.network = "n", .container = "me", .ifname = "eth0"};
static const struct gw_ipam_owner you = {.network = "n", .container = "you", .ifname = "eth0"};

static int empty(void **state)
{
	(void)state;
	return gw_remove_tree(DIR_, &e);
}

static int any(void *arg, const struct gw_addr *a, struct gw_err *err)
{
	(void)arg;
	(void)a;
	(void)err;
	return 1;
}

/* One address out of range for `o`; "" when there is none. */
static const char *take(const char *range, const struct gw_ipam_owner *o)
{
	static char text[64];
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_addr r = plug_addr(range), a;
	OK(gw_ipam_open(DIR_, &s, &e));
	int rc = gw_ipam_take(&s, &r, o, any, NULL, &a, &e);
	if (rc < 0 && strcmp(e.code, "NoFreeAddress") != 0)
		fail_msg("%s", e.text);
	return rc < 0 ? "" : gw_addr_text(&a, text, sizeof(text));
}

static void give_back(const char *a, const struct gw_ipam_owner *o)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_addr x = plug_addr(a);
	OK(gw_ipam_open(DIR_, &s, &e));
	OK(gw_ipam_give_back(&s, &x, o, &e));
}

static void addresses_are_given_out_in_turn(void **state)
{
	(void)state;
	assert_string_equal(take("10.1.0.0/29", &me), "10.1.0.1/32");
	assert_string_equal(take("10.1.0.0/29", &me), "10.1.0.2/32");
	give_back("10.1.0.1", &me);
	assert_string_equal(take("10.1.0.0/29", &me), "10.1.0.3/32");
	for (int i = 4; i <= 6; i++)
		assert_string_not_equal(take("10.1.0.0/29", &me), "");
	assert_string_equal(take("10.1.0.0/29", &me), "10.1.0.1/32"); /* neither .0 nor .7 */
	assert_string_equal(take("10.1.0.0/29", &me), "");
	assert_non_null(strstr(e.text, "10.1.0.0/29"));
}

static void an_ipv6_range_has_no_broadcast(void **state)
{
	(void)state;
	const char *want[] = {"fd00::1/128", "fd00::2/128", "fd00::3/128", ""};
	for (size_t i = 0; i < gw_countof(want); i++)
		assert_string_equal(take("fd00::/126", &me), want[i]);
}

static void the_smallest_ranges_are_used_whole(void **state)
{
	(void)state;
	assert_string_equal(take("10.1.0.4/32", &me), "10.1.0.4/32");
	assert_string_equal(take("10.1.0.4/32", &me), "");
	assert_string_equal(take("10.1.0.6/31", &me), "10.1.0.7/32");
	assert_string_equal(take("10.1.0.6/31", &me), "10.1.0.6/32");
	assert_string_equal(take("10.1.0.6/31", &me), "");
}

static void a_carry_goes_through_all_bytes(void **state)
{
	(void)state;
	OK(gw_mkdirs(DIR_ "/last", &e));
	OK(gw_write_file(DIR_ "/last/10.0.0.0_8", "10.0.255.255", 12, &e));
	assert_string_equal(take("10.0.0.0/8", &me), "10.1.0.0/32");
}

static void what_is_reserved_or_away_is_not_given_out(void **state)
{
	(void)state;
	struct gw_addr one = plug_addr("10.1.0.1"), two = plug_addr("10.1.0.2");
	OK(gw_ipam_reserve(DIR_, &one, "lease x", &e));
	OK(gw_ipam_away_set(DIR_, &two, "node-b", &e));
	assert_string_equal(take("10.1.0.0/30", &me), "");
	OK(gw_ipam_unreserve(DIR_, &one, &e));
	OK(gw_ipam_unreserve(DIR_, &one, &e)); /* not there: fine */
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.1/32");
	OK(gw_ipam_away_clear(DIR_, &two, &e));
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.2/32");
}

static void reserving_what_a_pod_has_says_so_and_holds_all_the_same(void **state)
{
	(void)state;
	struct gw_addr one = plug_addr("10.1.0.1");
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.1/32");
	assert_true(gw_ipam_reserve(DIR_, &one, "", &e) < 0);
	assert_string_equal(e.code, "AddressInUse");
	assert_non_null(strstr(e.text, "container me"));
	give_back("10.1.0.1", &me);
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.2/32");
	assert_string_equal(take("10.1.0.0/30", &me), "");
}

static void only_the_owner_gives_an_address_back(void **state)
{
	(void)state;
	assert_string_equal(take("10.1.0.4/32", &me), "10.1.0.4/32");
	give_back("10.1.0.4", &you);
	assert_string_equal(take("10.1.0.4/32", &you), "");
	give_back("10.1.0.4", &me);
	assert_string_equal(take("10.1.0.4/32", &you), "10.1.0.4/32");
}

static int take_this(const char *text, const struct gw_ipam_owner *o)
{
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_addr a = plug_addr(text);
	OK(gw_ipam_open(DIR_, &s, &e));
	return gw_ipam_take_this(&s, &a, o, &e);
}

static void a_pod_that_comes_home_takes_its_address_from_the_one_that_left(void **state)
{
	(void)state;
	struct gw_addr a = plug_addr("10.1.0.1");
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.1/32");
	assert_true(take_this("10.1.0.1", &you) < 0);
	assert_string_equal(e.code, "AddressInUse");
	OK(gw_ipam_away_set(DIR_, &a, "node-b", &e));
	OK(take_this("10.1.0.1", &you));
	give_back("10.1.0.1", &me); /* the old pod's DEL comes late */
	OK(gw_ipam_away_clear(DIR_, &a, &e));
	assert_string_equal(take("10.1.0.0/30", &me), "10.1.0.2/32");
	assert_string_equal(take("10.1.0.0/30", &me), "");
}

static void files_that_a_power_cut_left_empty_do_no_harm(void **state)
{
	(void)state;
	OK(gw_mkdirs(DIR_ "/addr", &e));
	OK(gw_mkdirs(DIR_ "/last", &e));
	OK(gw_mkdirs(DIR_ "/pod", &e));
	lab_sh("touch " DIR_ "/addr/10.1.0.1 " DIR_ "/last/10.1.0.0_29 " DIR_ "/pod/me " DIR_ "/addr/10.1.0.9.new");
	assert_string_equal(take("10.1.0.0/29", &me), "10.1.0.2/32"); /* in doubt it is somebody's */
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_ipam_owner who;
	struct gw_record r;
	struct gw_addr a = plug_addr("10.1.0.1");
	OK(gw_ipam_open(DIR_, &s, &e));
	assert_int_equal(gw_ipam_who(&s, &a, &who, &e), 0);
	assert_int_equal(gw_record_get(&s, "me", &r, &e), 0);
}

static struct gw_record record(const char *container, const char *migration)
{
	struct gw_record r = {.dormant = migration[0] != 0, .netns = "/run/netns/x"};
	gw_ipam_owner(&r.owner, "n", container, "eth0");
	(void)snprintf(r.migration, sizeof(r.migration), "%s", migration);
	(void)snprintf(r.pod.ifname, IFNAMSIZ, "eth0");
	(void)snprintf(r.pod.host_ifname, IFNAMSIZ, "gw1");
	r.pod.mac[0] = r.pod.host_mac[0] = 2;
	r.pod.mtu = 1400;
	r.pod.naddrs = 1;
	r.pod.addrs[0] = plug_addr("10.1.0.1");
	return r;
}

static int count(void *arg, const struct gw_record *r, struct gw_err *err)
{
	(void)r;
	(void)err;
	++*(int *)arg;
	return 0;
}

static void a_record_is_read_as_it_was_written(void **state)
{
	(void)state;
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	struct gw_record r = record("me", "m1"), got = {0};
	int n = 0;
	OK(gw_ipam_open(DIR_, &s, &e));
	OK(gw_record_put(&s, &r, &e));
	assert_int_equal(gw_record_get(&s, "me", &got, &e), 1);
	assert_memory_equal(&r.pod, &got.pod, sizeof(r.pod));
	assert_string_equal(got.migration, "m1");
	assert_true(got.dormant);
	/* What a crash leaves is cleared away by the next look. */
	lab_sh("cp " DIR_ "/pod/me " DIR_ "/pod/me.new");
	OK(gw_record_each(&s, count, &n, &e));
	assert_int_equal(n, 1);
	assert_int_equal(access(DIR_ "/pod/me.new", F_OK), -1);
	OK(gw_record_drop(&s, "me", &e));
	assert_int_equal(gw_record_get(&s, "me", &got, &e), 0);
}

static void a_pod_that_arrived_makes_its_migration_done(void **state)
{
	(void)state;
	struct gw_record r = record("me", "m1"), got;
	{
		gw_auto(ipam) struct gw_ipam s = {.lock = -1};
		OK(gw_ipam_open(DIR_, &s, &e));
		OK(gw_record_put(&s, &r, &e));
		lab_sh("touch -d '40 days ago' " DIR_ "/done/old; touch " DIR_ "/done/new");
	}
	assert_int_equal(gw_record_arrived(DIR_, "you", &e), -ENOENT);
	OK(gw_record_arrived(DIR_, "me", &e));
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	OK(gw_ipam_open(DIR_, &s, &e));
	assert_int_equal(gw_record_get(&s, "me", &got, &e), 1);
	assert_false(got.dormant);
	assert_true(gw_record_is_done(&s, "m1") && gw_record_is_done(&s, "new"));
	assert_false(gw_record_is_done(&s, "old"));
}

static void a_call_waits_for_the_lock_of_another(void **state)
{
	(void)state;
	int go[2];
	gw_auto(ipam) struct gw_ipam s = {.lock = -1};
	OK(gw_ipam_open(DIR_, &s, &e));
	assert_int_equal(pipe(go), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		gw_auto(ipam) struct gw_ipam t = {.lock = -1};
		gw_end_ipam(&s); /* the description is shared: only the parent's copy counts now */
		char c = gw_ipam_open(DIR_, &t, NULL) == 0 ? 'y' : 'n';
		_exit(write(go[1], &c, 1) == 1 ? 0 : 1);
	}
	gw_sleep_us(30000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	gw_end_ipam(&s);
	int st;
	char c = 0;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(read(go[0], &c, 1), 1);
	assert_int_equal(c, 'y');
}

#define ON_EMPTY(t) cmocka_unit_test_setup(t, empty)
static int tests(void)
{
	const struct CMUnitTest list[] = {
	        ON_EMPTY(addresses_are_given_out_in_turn),
	        ON_EMPTY(an_ipv6_range_has_no_broadcast),
	        ON_EMPTY(the_smallest_ranges_are_used_whole),
	        ON_EMPTY(a_carry_goes_through_all_bytes),
	        ON_EMPTY(what_is_reserved_or_away_is_not_given_out),
	        ON_EMPTY(reserving_what_a_pod_has_says_so_and_holds_all_the_same),
	        ON_EMPTY(only_the_owner_gives_an_address_back),
	        ON_EMPTY(a_pod_that_comes_home_takes_its_address_from_the_one_that_left),
	        ON_EMPTY(files_that_a_power_cut_left_empty_do_no_harm),
	        ON_EMPTY(a_record_is_read_as_it_was_written),
	        ON_EMPTY(a_pod_that_arrived_makes_its_migration_done),
	        ON_EMPTY(a_call_waits_for_the_lock_of_another),
	};
	return cmocka_run_group_tests_name("cni/ipam", list, NULL, NULL);
}

int main(void)
{
	_exit(lab_run(tests)); /* its children's pid namespace is dead: no leak check can start */
}
