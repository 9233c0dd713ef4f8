/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Outgoing connections. TCP's whole life comes from inet_sock_set_state, which every way to connect
 * passes: system call, io_uring, fast open. The owner is remembered by socket at SYN_SENT, in the
 * caller's context. Connects that fail before that, and UDP connects, come from the return of the
 * protocol's connect functions (plan fentry) or from the cgroup's connect hooks and sys_exit (plan
 * tracepoint). Datagrams without connect, inbound connections and other protocols are not seen here.
 */
#include "sock.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

/* Under the tracepoint plan: connects between the cgroup's hook and their result, by thread. */
MAP_HASH(in_flight, __u64, struct endpoint, 8192);

static __always_inline void network__begin(struct sock *sk)
{
	__u64 key = (__u64)sk, thread = bpf_get_current_pid_tgid();
	struct owner owner;

	sock__fill_owner(&owner);
	MAP_DELETE(in_flight, &thread);
	if (MAP_UPDATE(sockets, &key, &owner))
		base__count(COUNTER_SOCKETS_FULL);
	sock__emit(sk, &owner, EVT_CONNECTIONS_CONNECTION_ATTEMPTED, RESULT_UNKNOWN, TCP_SYN_SENT,
		   true);
}

TRACEPOINT(inet_sock_set_state, handle_set_state, struct sock *sk, int old_state, int new_state)
{
	__u64 key = (__u64)sk;
	struct owner *owner;
	int error;

	if (new_state == TCP_SYN_SENT) {
		if (scope__current() && LOAD(sk, sk_protocol) == IPPROTO_TCP)
			network__begin(sk);
		return 0;
	}
	if (new_state != TCP_ESTABLISHED && new_state != TCP_CLOSE)
		return 0;
	owner = MAP_LOOKUP(sockets, &key); /* only sockets in scope are there */
	if (!owner)
		return 0;
	if (new_state == TCP_ESTABLISHED) {
		if (owner->established)
			return 0;
		owner->established = 1;
		owner->local_port = LOAD(sk, __sk_common.skc_num);
		owner->reported_ns = bpf_ktime_get_boot_ns();
		sock__emit(sk, owner, EVT_CONNECTIONS_CONNECTION_ESTABLISHED, 0, new_state, true);
		return 0;
	}
	error = LOAD(sk, sk_err);
	if (owner->established)
		sock__emit(sk, owner, EVT_CONNECTIONS_CONNECTION_CLOSED, error, new_state, true);
	else /* no error: the caller gave up before there was a result */
		sock__emit(sk, owner, EVT_CONNECTIONS_CONNECTION_FAILED,
			   error ? error : RESULT_UNKNOWN, new_state, true);
	MAP_DELETE(sockets, &key);
	return 0;
}

static __always_inline void network__progress(__u64 key)
{
	struct owner *owner = MAP_LOOKUP(sockets, &key);

	if (!owner)
		return;
	owner->reported_ns = bpf_ktime_get_boot_ns();
	sock__emit((struct sock *)key, owner, EVT_CONNECTIONS_CONNECTION_PROGRESS,
		   owner->established ? 0 : RESULT_UNKNOWN,
		   owner->established ? TCP_ESTABLISHED : TCP_SYN_SENT, false);
}

/* Run by the sensor, not by a hook: writes a progress record for each socket whose key it is given. No
 * loop: 6.1 refuses the back-edge that clang lays here. Only sockets in scope are in the table. */
RUN_BY_SENSOR(emit_progress, __u64 key_0, __u64 key_1, __u64 key_2, __u64 key_3)
{
	network__progress(key_0);
	network__progress(key_1);
	network__progress(key_2);
	network__progress(key_3);
	return 0;
}

static __always_inline bool network__read_address(struct endpoint *endpoint, void *address)
{
	__u16 family = 0, port = 0;
	__u32 v4 = 0;

	bpf_probe_read_kernel(&family, sizeof(family), address);
	bpf_probe_read_kernel(&port, sizeof(port), address + 2);
	endpoint->family = family;
	endpoint->remote_port = __builtin_bswap16(port);
	if (family == AF_INET) {
		bpf_probe_read_kernel(&v4, sizeof(v4), address + 4);
		sock__map_v4(endpoint->remote, v4);
		return true;
	}
	return family == AF_INET6 && !bpf_probe_read_kernel(endpoint->remote, 16, address + 8);
}

/* ---- plan fentry ---- */

#define EADDRNOTAVAIL 99
#define ENOBUFS 105

/* These two come after SYN_SENT: inet_sock_set_state has told that connect's end already. */
static __always_inline bool network__told(int result)
{
	return result == -EADDRNOTAVAIL || result == -ENOBUFS;
}

static __always_inline int network__tcp_returned(void *address, int result)
{
	struct endpoint endpoint = {.protocol = IPPROTO_TCP};

	if (result < 0 && !network__told(result) && network__read_address(&endpoint, address))
		sock__emit_endpoint(&endpoint, EVT_CONNECTIONS_CONNECTION_FAILED, -result);
	return 0;
}

FEXIT(tcp_v4_connect, handle_tcp_v4, struct sock *sk, void *address, int length, int result)
{
	return scope__current() ? network__tcp_returned(address, result) : 0;
}

FEXIT(tcp_v6_connect, handle_tcp_v6, struct sock *sk, void *address, int length, int result)
{
	return scope__current() ? network__tcp_returned(address, result) : 0;
}

/* connect() of UDP sockets of both families, on every kernel from 5.10 to 7.2 (ip4_datagram_connect,
 * which it calls, is inlined away on some). */
FEXIT(inet_dgram_connect, handle_dgram, struct socket *socket, void *address, int length, int flags,
      int result)
{
	struct endpoint endpoint = {.protocol = IPPROTO_UDP};

	if (!scope__current())
		return 0;
	if (READ(socket, sk, sk_protocol) != IPPROTO_UDP ||
	    !network__read_address(&endpoint, address))
		return 0;
	sock__emit_endpoint(&endpoint,
			    result ? EVT_CONNECTIONS_CONNECTION_FAILED
				   : EVT_CONNECTIONS_CONNECTION_ATTEMPTED,
			    -result);
	return 0;
}

/* ---- plan tracepoint ---- */

/* Attached to the scope's cgroup. Keeps the endpoint until sys_exit tells the result; without sys_exit a
 * UDP attempt is reported at once, its result unknown, and TCP comes from inet_sock_set_state alone. */
static __always_inline void network__cgroup_connect(struct endpoint *endpoint)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (endpoint->protocol != IPPROTO_TCP && endpoint->protocol != IPPROTO_UDP)
		return;
	if (!SETTING(syscall_results)) {
		if (endpoint->protocol == IPPROTO_UDP)
			sock__emit_endpoint(endpoint, EVT_CONNECTIONS_CONNECTION_ATTEMPTED,
					    RESULT_UNKNOWN);
		return;
	}
	if (MAP_UPDATE(in_flight, &thread, endpoint))
		base__count(COUNTER_IN_FLIGHT_FULL);
}

#ifndef LIMES_BCC /* bcc attaches no cgroup socket-address programs */

SEC("cgroup/connect4")
int handle_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = {.family = AF_INET};

	if (!scope__current())
		return 1;
	endpoint.remote_port = __builtin_bswap16(ctx->user_port);
	endpoint.protocol = ctx->protocol;
	sock__map_v4(endpoint.remote, ctx->user_ip4);
	network__cgroup_connect(&endpoint);
	return 1; /* never blocks */
}

SEC("cgroup/connect6")
int handle_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = {.family = AF_INET6};
	__u32 *remote = (__u32 *)endpoint.remote;

	if (!scope__current())
		return 1;
	endpoint.remote_port = __builtin_bswap16(ctx->user_port);
	endpoint.protocol = ctx->protocol;
	remote[0] = ctx->user_ip6[0];
	remote[1] = ctx->user_ip6[1];
	remote[2] = ctx->user_ip6[2];
	remote[3] = ctx->user_ip6[3];
	network__cgroup_connect(&endpoint);
	return 1;
}

#endif

#if defined(__TARGET_ARCH_x86)
#define SYSCALL_CONNECT 42
#define SYSCALL_NUMBER(regs) READ(regs, orig_ax)

TRACEPOINT(sys_exit, handle_sys_exit, struct pt_regs *regs, long result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct endpoint *endpoint;
	__u8 action;

	if (!scope__current())
		return 0;
	if (SYSCALL_NUMBER(regs) != SYSCALL_CONNECT)
		return 0;
	endpoint = MAP_LOOKUP(in_flight, &thread);
	if (!endpoint)
		return 0; /* not inet, or TCP that inet_sock_set_state follows */
	action = result ? EVT_CONNECTIONS_CONNECTION_FAILED : EVT_CONNECTIONS_CONNECTION_ATTEMPTED;
	if (endpoint->protocol == IPPROTO_UDP || result)
		sock__emit_endpoint(endpoint, action, -result);
	MAP_DELETE(in_flight, &thread);
	return 0;
}
#endif
