/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets: the owner remembered at connect, addresses, byte counts, connection records. */
#ifndef LIMES_SOCK_H
#define LIMES_SOCK_H

#include "task.h"

#define SOCK_DONE_BIT 1 /* enum sock_flags: set by the kernel when the peer's FIN arrived */
#define RESULT_UNKNOWN (-1)

/* Who opened a socket: most state changes run in softirq, where the current task is a bystander. */
struct owner {
	__u64 cgroup_id;
	__u64 exec_id;
	__u64 start_ns;
	__u64 socket_id;
	__u64 opened_ns;
	__u64 reported_ns; /* of the latest record; the consumer asks for progress by it */
	__u32 tgid;
	__u16 local_port; /* the socket has forgotten it by the time it closes */
	__u16 established;
};

/* Where a connect goes, before or without a socket that knows. */
struct endpoint {
	__u8 remote[16];
	__u16 remote_port; /* host order */
	__u16 family;
	__u8 protocol;
	__u8 _pad[3];
};

MAP_HASH(sockets, __u64, struct owner, MAX_SOCKETS);
MAP_RING(connections, RING_BYTES_CONNECTIONS);

static __always_inline void sock__map_v4(__u8 *to, __u32 address)
{
	__builtin_memset(to, 0, 10);
	to[10] = 0xff;
	to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, 4);
}

static __always_inline void sock__fill_owner(struct owner *owner)
{
	struct image image;

	owner->tgid = task__current(&image);
	owner->cgroup_id = bpf_get_current_cgroup_id();
	owner->exec_id = image.exec_id;
	owner->start_ns = image.start_ns;
	owner->socket_id = base__mint_id();
	owner->opened_ns = bpf_ktime_get_boot_ns();
	owner->reported_ns = owner->opened_ns;
	owner->local_port = 0;
	owner->established = 0;
}

static __always_inline void sock__fill_record(struct evt_connection *record, struct owner *owner,
					      __u8 action)
{
	task__fill_header(&record->header, EVT_CONNECTIONS, action);
	record->header.cgroup_id = owner->cgroup_id;
	record->header.exec_id = owner->exec_id;
	record->header.start_ns = owner->start_ns;
	record->header.tgid = owner->tgid;
	record->socket_id = owner->socket_id;
	record->opened_ns = owner->opened_ns;
	record->bytes_sent = 0;
	record->bytes_received = 0;
	record->error = RESULT_UNKNOWN;
	record->state = 0;
}

/* `typed` is a constant: true where sk is a hook's own argument, whose members are plain loads. */
#define SOCK_GET(sk, ...) (typed ? LOAD(sk, __VA_ARGS__) : READ(sk, __VA_ARGS__))

static __always_inline void sock__fill_addresses(struct evt_connection *record, struct sock *sk,
						 const bool typed)
{
	__u16 family = SOCK_GET(sk, __sk_common.skc_family);

	record->family = family;
	record->remote_port = __builtin_bswap16(SOCK_GET(sk, __sk_common.skc_dport));
	record->net_ns = SOCK_GET(sk, __sk_common.skc_net.net, ns.inum);
	if (family == AF_INET6) {
		bpf_probe_read_kernel(record->remote, 16, &sk->__sk_common.skc_v6_daddr);
		bpf_probe_read_kernel(record->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	} else {
		sock__map_v4(record->remote, SOCK_GET(sk, __sk_common.skc_daddr));
		sock__map_v4(record->local, SOCK_GET(sk, __sk_common.skc_rcv_saddr));
	}
}

/* Payload only: what was sent minus what was sent again; the peer's FIN counts one in bytes_received. */
static __always_inline void sock__fill_bytes(struct evt_connection *record, struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	__u64 received = READ(tcp, bytes_received);

	record->bytes_sent = READ(tcp, bytes_sent) - READ(tcp, bytes_retrans);
	record->bytes_received =
		received - (received ? (READ(sk, __sk_common.skc_flags) >> SOCK_DONE_BIT) & 1 : 0);
}

static __always_inline void sock__emit(struct sock *sk, struct owner *owner, __u8 action, int error,
				       __u8 state, const bool typed)
{
	struct evt_connection *record = RING_RESERVE(connections, struct evt_connection);

	if (!record) {
		base__count(COUNTER_CONNECTION_RING_FULL);
		return;
	}
	sock__fill_record(record, owner, action);
	sock__fill_addresses(record, sk, typed);
	if (action == EVT_CONNECTIONS_CONNECTION_PROGRESS ||
	    action == EVT_CONNECTIONS_CONNECTION_CLOSED)
		sock__fill_bytes(record, sk);
	record->protocol = IPPROTO_TCP;
	record->local_port = owner->local_port;
	record->error = error;
	record->state = state;
	RING_SUBMIT(connections, record, NO_WAKEUP);
}

/* A connect that has no life to follow: UDP, or TCP that failed before its socket moved. */
static __always_inline void sock__emit_endpoint(struct endpoint *endpoint, __u8 action, int error)
{
	struct evt_connection *record = RING_RESERVE(connections, struct evt_connection);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct owner owner;

	if (!record) {
		base__count(COUNTER_CONNECTION_RING_FULL);
		return;
	}
	sock__fill_owner(&owner);
	sock__fill_record(record, &owner, action);
	__builtin_memcpy(record->remote, endpoint->remote, 16);
	__builtin_memset(record->local, 0, 16);
	record->local_port = 0;
	record->remote_port = endpoint->remote_port;
	record->family = endpoint->family;
	record->protocol = endpoint->protocol;
	record->net_ns = READ(task, nsproxy, net_ns, ns.inum);
	record->error = error;
	RING_SUBMIT(connections, record, NO_WAKEUP);
}

#endif /* LIMES_SOCK_H */
