#include "world.h"

/* ---- who may speak to whom ---- */

static void both_ends_learn_the_name_in_the_others_certificate(void **state)
{
	(void)state;
	struct pki_pair p;
	open_pair(&p);
	assert_string_equal(gw_conn_peer(p.dialled), "host-b");
	assert_string_equal(gw_conn_peer(p.accepted), "host-a");
	assert_memory_equal(gw_conn_where(p.dialled), "127.0.0.1:", 10);
	assert_memory_equal(gw_conn_where(p.accepted), "127.0.0.1:", 10);
	close_pair(&p);
}

static void without_a_subject_alternative_name_the_common_name_counts(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "ca", "cn", "host-cn", PKI_CN_ONLY);
	struct gw_tls *cn = pki_tls(&pki, "ca", "cn");
	pki_connect(cn, b, "host-b", &p);
	assert_non_null(p.accepted);
	assert_string_equal(gw_conn_peer(p.accepted), "host-cn");
	close_pair(&p);
	pki_connect(a, cn, "host-cn", &p);
	assert_non_null(p.dialled);
	assert_string_equal(gw_conn_peer(p.dialled), "host-cn");
	close_pair(&p);
	gw_tls_free(cn);
}

static void with_a_subject_alternative_name_the_common_name_does_not_count(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_connect(a, b, "unused-cn", &p);
	assert_null(p.dialled);
	has_words(&p.dial_err, "another host answered");
	close_pair(&p);
}

static void any_dns_name_of_the_certificate_may_be_asked_for(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "ca", "two", "host-t", PKI_TWO_NAMES);
	struct gw_tls *two = pki_tls(&pki, "ca", "two");
	pki_connect(a, two, "second.host-t", &p);
	assert_non_null(p.dialled);
	assert_string_equal(gw_conn_peer(p.dialled), "second.host-t");
	close_pair(&p);
	gw_tls_free(two);
}

/* Connections made before it go on; a failed change changes nothing. */
static void a_new_certificate_counts_for_new_connections_only(void **state)
{
	(void)state;
	struct pki_pair before, after;
	struct gw_err e;
	char ca[256], pem[256], key[256], none[256];
	pki_cert(&pki, "ca", "renewed", "host-r", 0);
	(void)snprintf(ca, sizeof(ca), "%s/ca.pem", pki.dir);
	(void)snprintf(pem, sizeof(pem), "%s/renewed.pem", pki.dir);
	(void)snprintf(key, sizeof(key), "%s/renewed.key", pki.dir);
	(void)snprintf(none, sizeof(none), "%s/none.pem", pki.dir);
	struct gw_tls *t = pki_tls(&pki, "ca", "b");
	pki_connect(a, t, "host-b", &before);
	assert_non_null(before.accepted);
	assert_int_equal(gw_tls_reload(t, ca, none, key, &e), -ENOENT);
	pki_connect(a, t, "host-b", &after);
	assert_non_null(after.accepted);
	close_pair(&after);
	assert_int_equal(gw_tls_reload(t, ca, pem, key, &e), 0);
	pki_connect(a, t, "host-r", &after);
	assert_non_null(after.accepted);
	struct iovec word = {.iov_base = (char[]){"{}"}, .iov_len = 2};
	assert_int_equal(gw_conn_send(before.accepted, GW_F_MSG, &word, 1, &e), 0);
	assert_string_equal(gw_conn_peer(before.dialled), "host-b");
	close_pair(&before);
	close_pair(&after);
	gw_tls_free(t);
}

static void a_host_with_another_name_is_refused_on_both_ends(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_connect(a, b, "host-c", &p);
	assert_null(p.dialled);
	assert_null(p.accepted);
	assert_int_equal(p.dial_err.class, GW_PEER);
	has_words(&p.dial_err, "connect to host-c: TLS handshake with 127.0.0.1:");
	has_words(&p.dial_err, "another host answered");
	assert_int_equal(p.accept_err.class, GW_PEER);
}

static void a_wildcard_certificate_is_nobody(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "ca", "wild", "example", PKI_BAD_NAME);
	struct gw_tls *wild = pki_tls(&pki, "ca", "wild");
	pki_connect(a, wild, "host.example", &p);
	assert_null(p.dialled);
	has_words(&p.dial_err, "another host answered");
	close_pair(&p);
	pki_connect(wild, b, "host-b", &p);
	assert_null(p.accepted);
	has_words(&p.accept_err, "no usable name");
	close_pair(&p);
	gw_tls_free(wild);
}

static void names_that_would_switch_the_check_off_are_not_dialled(void **state)
{
	(void)state;
	struct gw_conn *c = NULL;
	struct gw_err e = {0};
	assert_int_equal(gw_conn_dial(a, "127.0.0.1", 1, "", 1000, &c, &e), -EINVAL);
	assert_int_equal(gw_conn_dial(a, "127.0.0.1", 1, ".example", 1000, &c, &e), -EINVAL);
	assert_int_equal(e.class, GW_INPUT);
	assert_null(c);
}

static void a_server_of_another_ca_is_refused(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "other-ca", "b2", "host-b", 0);
	struct gw_tls *other = pki_tls(&pki, "ca", "b2");
	pki_connect(a, other, "host-b", &p);
	assert_null(p.dialled);
	has_words(&p.dial_err, "certificates of the same CA");
	has_words(&p.accept_err, "signed by a CA the peer does not know");
	close_pair(&p);
	gw_tls_free(other);
}

static void a_client_of_another_ca_is_refused_and_is_told_why(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "other-ca", "a2", "host-a", 0);
	struct gw_tls *other = pki_tls(&pki, "ca", "a2");
	pki_connect(other, b, "host-b", &p);
	assert_null(p.accepted);
	has_words(&p.accept_err, "certificates of the same CA");
	struct gw_frame f;
	assert_true(gw_conn_recv(p.dialled, 10000, &f, &p.dial_err) < 0);
	has_words(&p.dial_err, "signed by a CA the peer does not know");
	close_pair(&p);
	gw_tls_free(other);
}

static void a_client_without_certificate_is_refused(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	raw_pair(&r, &s, NULL, TLS1_3_VERSION);
	assert_true(s.rc < 0);
	assert_null(s.conn);
	assert_int_equal(s.err.class, GW_PEER);
	has_words(&s.err, "the peer showed no certificate");
	raw_close(&r);
}

static void expired_certificates_are_refused_on_either_end(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "ca", "old", "host-old", PKI_EXPIRED);
	struct gw_tls *old = pki_tls(&pki, "ca", "old");
	pki_connect(a, old, "host-old", &p);
	assert_null(p.dialled);
	has_words(&p.dial_err, "certificate has expired");
	has_words(&p.accept_err, "our certificate has expired: renew it");
	close_pair(&p);
	pki_connect(old, b, "host-b", &p);
	assert_null(p.accepted);
	has_words(&p.accept_err, "certificate has expired");
	close_pair(&p);
	gw_tls_free(old);
}

static void a_certificate_for_servers_only_cannot_be_a_client(void **state)
{
	(void)state;
	struct pki_pair p;
	pki_cert(&pki, "ca", "srv", "host-s", PKI_SERVER_ONLY);
	struct gw_tls *srv = pki_tls(&pki, "ca", "srv");
	pki_connect(srv, b, "host-b", &p);
	assert_null(p.accepted);
	has_words(&p.accept_err, "purpose");
	close_pair(&p);
	gw_tls_free(srv);
}

static void tls_1_2_is_refused(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	raw_pair(&r, &s, "a", TLS1_2_VERSION);
	assert_true(s.rc < 0);
	has_words(&s.err, "unsupported protocol");
	raw_close(&r);
}

static void the_cipher_is_the_fastest_one(void **state)
{
	(void)state;
	struct raw r;
	struct accepting s;
	raw_pair(&r, &s, "a", TLS1_3_VERSION);
	assert_int_equal(s.rc, 0);
	assert_string_equal(SSL_get_version(r.ssl), "TLSv1.3");
	assert_string_equal(SSL_get_cipher(r.ssl), "TLS_AES_128_GCM_SHA256");
	gw_conn_free(s.conn);
	raw_close(&r);
}

static void unusable_files_are_named(void **state)
{
	(void)state;
	struct gw_tls *t = NULL;
	struct gw_err e = {0};
	char ca[128], pem[128], key[128], other[128], none[128];
	(void)snprintf(ca, sizeof(ca), "%s/ca.pem", pki.dir);
	(void)snprintf(pem, sizeof(pem), "%s/a.pem", pki.dir);
	(void)snprintf(key, sizeof(key), "%s/a.key", pki.dir);
	(void)snprintf(other, sizeof(other), "%s/b.key", pki.dir);
	(void)snprintf(none, sizeof(none), "%s/none.pem", pki.dir);
	assert_int_equal(gw_tls_new(none, pem, key, &t, &e), -ENOENT);
	has_words(&e, "none.pem cannot be used: No such file");
	assert_int_equal(gw_tls_new(ca, key, key, &t, &e), -EINVAL);
	has_words(&e, "certificate ");
	assert_int_equal(gw_tls_new(ca, pem, other, &t, &e), -EINVAL);
	has_words(&e, "key values mismatch");
	assert_int_equal(e.class, GW_INPUT);
	assert_null(t);
}

/* ---- handshakes that come to nothing ---- */

static void garbage_instead_of_a_handshake_is_refused(void **state)
{
	(void)state;
	int sv[2];
	struct gw_conn *c = NULL;
	struct gw_err e = {0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(send(sv[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, MSG_NOSIGNAL), 27);
	assert_int_equal(gw_conn_accept(b, sv[1], 10000, &c, &e), -EPROTO);
	assert_int_equal(e.class, GW_PEER);
	has_words(&e, "TLS handshake with local: TLS failed");
	assert_null(c);
	(void)close(sv[0]);
}

static void a_peer_that_says_nothing_times_out(void **state)
{
	(void)state;
	int sv[2];
	struct gw_conn *c = NULL;
	struct gw_err e = {0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(gw_conn_accept(b, sv[1], 20, &c, &e), -ETIMEDOUT);
	has_words(&e, "takes too long");
	(void)close(sv[0]);
	uint16_t port;
	gw_auto(fd) int silent = pki_listen(&port);
	assert_int_equal(gw_conn_dial(a, "127.0.0.1", port, "host-b", 20, &c, &e), -ETIMEDOUT);
	assert_null(c);
}

static void a_peer_that_hangs_up_in_the_handshake_is_named(void **state)
{
	(void)state;
	int sv[2];
	struct gw_conn *c = NULL;
	struct gw_err e = {0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	(void)close(sv[0]);
	assert_int_equal(gw_conn_accept(b, sv[1], 10000, &c, &e), -ECONNRESET);
	has_words(&e, "the peer closed the connection");
}

static void nobody_listening_is_said_with_a_way_out(void **state)
{
	(void)state;
	uint16_t port;
	struct gw_conn *c = NULL;
	struct gw_err e = {0};
	(void)close(pki_listen(&port));
	assert_int_equal(gw_conn_dial(a, "127.0.0.1", port, "host-b", 1000, &c, &e), -ECONNREFUSED);
	has_words(&e, "is godwitd running there?");
	assert_int_equal(gw_conn_dial(a, "no such host", port, "host-b", 1000, &c, &e), -EHOSTUNREACH);
	assert_int_equal(e.class, GW_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(both_ends_learn_the_name_in_the_others_certificate),
	        cmocka_unit_test(without_a_subject_alternative_name_the_common_name_counts),
	        cmocka_unit_test(with_a_subject_alternative_name_the_common_name_does_not_count),
	        cmocka_unit_test(any_dns_name_of_the_certificate_may_be_asked_for),
	        cmocka_unit_test(a_new_certificate_counts_for_new_connections_only),
	        cmocka_unit_test(a_host_with_another_name_is_refused_on_both_ends),
	        cmocka_unit_test(a_wildcard_certificate_is_nobody),
	        cmocka_unit_test(names_that_would_switch_the_check_off_are_not_dialled),
	        cmocka_unit_test(a_server_of_another_ca_is_refused),
	        cmocka_unit_test(a_client_of_another_ca_is_refused_and_is_told_why),
	        cmocka_unit_test(a_client_without_certificate_is_refused),
	        cmocka_unit_test(expired_certificates_are_refused_on_either_end),
	        cmocka_unit_test(a_certificate_for_servers_only_cannot_be_a_client),
	        cmocka_unit_test(tls_1_2_is_refused),
	        cmocka_unit_test(the_cipher_is_the_fastest_one),
	        cmocka_unit_test(unusable_files_are_named),
	        cmocka_unit_test(garbage_instead_of_a_handshake_is_refused),
	        cmocka_unit_test(a_peer_that_says_nothing_times_out),
	        cmocka_unit_test(a_peer_that_hangs_up_in_the_handshake_is_named),
	        cmocka_unit_test(nobody_listening_is_said_with_a_way_out),
	};
	return cmocka_run_group_tests_name("wire/tls", tests, make_world, end_world);
}
