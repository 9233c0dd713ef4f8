/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Processes: exec, fork, exit, by the scheduler's tracepoints, which every kernel since 5.5 runs for
 * every way to exec (execve, execveat, 32-bit calls, from a thread other than the leader). Arguments
 * are read from the new image's own memory, after the kernel copied them: the caller cannot change
 * them any more. Failed execs and threads are not seen here.
 */
#include "path.h"
#include "task.h"

#define ARGS_INLINE sizeof(((struct evt_exec *)0)->args)
#define ARGS_CHUNK sizeof(((struct evt_exec_chunk *)0)->data)
#define ARGS_MAX (32768 + ARGS_INLINE)
#define ARGS_CHUNKS_MAX ((ARGS_MAX - ARGS_INLINE) / ARGS_CHUNK)

MAP_RING(execs, RING_BYTES_EXECS);
MAP_RING(exec_chunks, RING_BYTES_EXEC_CHUNKS);
MAP_RING(processes, RING_BYTES_PROCESSES);

struct ended_key {
	__u64 start_ns;
	__u64 tgid;
};

/* Ends of processes with several threads, so that each is told once; the oldest are forgotten. */
MAP_LRU_HASH(ended, struct ended_key, __u32, 4096);

/* Sends one piece of the arguments; false when it could not. `length` is at most a chunk. */
static __always_inline bool exec__send_chunk(struct evt_exec *record, unsigned long start,
					     __u32 index, __u64 length)
{
	struct evt_exec_chunk *chunk = RING_RESERVE(exec_chunks, struct evt_exec_chunk);

	if (!chunk) {
		base__count(COUNTER_CHUNK_RING_FULL);
		return false;
	}
	chunk->exec_id = record->header.exec_id;
	chunk->index = index;
	chunk->length = length;
	if (bpf_probe_read_user(chunk->data, length, (void *)(start + index * ARGS_CHUNK))) {
		base__count(COUNTER_ARGS_UNREADABLE);
		chunk->length = 0;
		RING_SUBMIT(exec_chunks, chunk, NO_WAKEUP);
		return false;
	}
	RING_SUBMIT(exec_chunks, chunk, NO_WAKEUP);
	return true;
}

/*
 * Sends `bytes` of arguments, which start at `start`; returns how many went. The chunks are submitted
 * before their exec record, so a consumer that drains execs first finds every chunk of what it drained.
 * Whole chunks in the loop, the rest after it: with one way through each turn, the verifier of kernels
 * before 6.7, which forgets the states of earlier turns, does not follow 2^turns of them.
 */
static __always_inline __u32 exec__send_chunks(struct evt_exec *record, unsigned long start,
					       __u32 bytes)
{
	__u32 index;

	for (index = 0; index < ARGS_CHUNKS_MAX; index++) {
		if ((index + 1) * ARGS_CHUNK > bytes)
			break;
		if (!exec__send_chunk(record, start, index, ARGS_CHUNK))
			return index * ARGS_CHUNK;
	}
	if (index == ARGS_CHUNKS_MAX || index * ARGS_CHUNK == bytes)
		return index * ARGS_CHUNK;
	if (!exec__send_chunk(record, start, index, bytes & (ARGS_CHUNK - 1)))
		return index * ARGS_CHUNK;
	return bytes;
}

/* Comes last before the submit: each way out of the loop over chunks is verified on its own, with
 * everything that follows it. */
static __always_inline void exec__fill_args(struct evt_exec *record, unsigned long start)
{
	__u64 length = base__at_most(record->args_bytes, ARGS_INLINE);

	record->args_copied = length;
	if (bpf_probe_read_user(record->args, length, (void *)start)) {
		base__count(COUNTER_ARGS_UNREADABLE);
		record->args_copied = 0;
	} else if (record->args_bytes > ARGS_INLINE) {
		record->args_copied += exec__send_chunks(record, start + ARGS_INLINE,
							 record->args_bytes - ARGS_INLINE);
	}
	if (record->args_copied < record->args_bytes)
		record->header.flags |= EVT_EXEC_F_ARGS_CUT;
}

static __always_inline void exec__fill_file(struct evt_exec *record, struct file *file)
{
	struct inode *inode = LOAD(file, f_inode);
	struct dentry *dentry = LOAD(file, f_path.dentry);
	char name[8] = {};

	record->inode = LOAD(inode, i_ino);
	record->dev = LOAD(inode, i_sb, s_dev);
	record->nlink = LOAD(inode, i_nlink);
	if (!path__write(record->exe, sizeof(record->exe), &record->exe_start,
			 LOAD(file, f_path.mnt), dentry))
		record->header.flags |= EVT_EXEC_F_PATH_CUT;
	if (record->nlink == 0) {
		bpf_probe_read_kernel(name, 6, READ(dentry, d_name.name));
		if (*(__u32 *)name == 0x666d656d /* "memf" */ && name[4] == 'd' && name[5] == ':')
			record->header.flags |= EVT_EXEC_F_MEMFD;
	}
}

static __always_inline void exec__fill_credentials(struct evt_exec *record,
						   struct task_struct *task)
{
	const struct cred *cred = LOAD(task, cred);

	record->uid = LOAD(cred, uid.val);
	record->euid = LOAD(cred, euid.val);
	record->gid = LOAD(cred, gid.val);
	bpf_probe_read_kernel(&record->capabilities, sizeof(record->capabilities),
			      &cred->cap_effective);
	record->user_ns = LOAD(cred, user_ns, ns.inum);
	record->mnt_ns = LOAD(task, nsproxy, mnt_ns, ns.inum);
	record->net_ns = LOAD(task, nsproxy, net_ns, ns.inum);
	record->pid_ns = LOAD(task, nsproxy, pid_ns_for_children, ns.inum);
}

#define FILE_CLOSED 0
#define FILE_SOCKET 12
#define FILE_INTERNET_SOCKET 13
#define FILE_ANONYMOUS 15

/* The file type of an open file, as in stat(2); anonymous inodes have none. */
static __always_inline __u8 exec__file_type(struct file *file)
{
	struct socket *socket;
	__u16 family;
	__u8 type;

	if (!file)
		return FILE_CLOSED;
	type = READ(file, f_inode, i_mode) >> 12;
	if (type != FILE_SOCKET)
		return type ? type : FILE_ANONYMOUS;
	socket = READ(file, private_data);
	family = READ(socket, sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6 ? FILE_INTERNET_SOCKET : FILE_SOCKET;
}

/* After the exec closed what it closes. One open file is often all three: it is read once. */
static __always_inline void exec__fill_stdio(struct evt_exec *record, struct task_struct *task)
{
	struct file *files[3] = {};

	bpf_probe_read_kernel(files, sizeof(files), LOAD(task, files, fdt, fd));
	record->stdin = exec__file_type(files[0]);
	record->stdout = files[1] == files[0] ? record->stdin : exec__file_type(files[1]);
	record->stderr = files[2] == files[1] ? record->stdout : exec__file_type(files[2]);
}

static __always_inline void exec__fill_parent(struct evt_exec *record, struct task_struct *task)
{
	struct task_struct *parent = LOAD(task, real_parent, group_leader);
	__u32 ppid = LOAD(parent, tgid);
	struct image *image = MAP_LOOKUP(images, &ppid);

	record->ppid = ppid;
	record->parent_start_ns = LOAD(parent, start_boottime);
	record->parent_exec_id = image ? image->exec_id : 0;
}

TRACEPOINT(sched_process_exec, handle_exec, struct task_struct *task, int old_pid,
	   struct linux_binprm *bprm)
{
	struct evt_exec *record;
	struct image image;
	__u32 tgid;

	if (!scope__current())
		return 0;
	tgid = bpf_get_current_pid_tgid() >> 32;
	image.exec_id = base__mint_id();
	image.start_ns = LOAD(task, group_leader, start_boottime);
	record = RING_RESERVE(execs, struct evt_exec);
	if (!record) {
		base__count(COUNTER_EXEC_RING_FULL);
		task__remember(tgid, &image);
		return 0;
	}
	task__fill_header(&record->header, EVT_PROCESS_EXECS, EVT_PROCESS_EXECS_EXEC);
	record->header.cgroup_id = bpf_get_current_cgroup_id();
	record->header.exec_id = image.exec_id;
	record->header.start_ns = image.start_ns;
	record->header.tgid = tgid;
	exec__fill_parent(record, task);
	task__remember(tgid, &image);
	exec__fill_credentials(record, task);
	exec__fill_stdio(record, task);
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	exec__fill_file(record, LOAD(bprm, file));
	if (LOAD(bprm, interp) != LOAD(bprm, filename))
		record->header.flags |= EVT_EXEC_F_SCRIPT;
	path__write(record->cwd, sizeof(record->cwd), &record->cwd_start, LOAD(task, fs, pwd.mnt),
		    LOAD(task, fs, pwd.dentry));
	record->args_bytes = LOAD(task, mm, arg_end) - LOAD(task, mm, arg_start);
	record->_pad = 0;
	exec__fill_args(record, LOAD(task, mm, arg_start));
	RING_SUBMIT(execs, record, NO_WAKEUP);
	return 0;
}

/* signal_struct has the threads that were released; this one and the leader are not yet. */
static __always_inline void process__fill_times(struct evt_process *record,
						struct task_struct *task)
{
	struct task_struct *leader = LOAD(task, group_leader);

	record->user_ns = LOAD(task, signal, utime) + LOAD(task, utime);
	record->system_ns = LOAD(task, signal, stime) + LOAD(task, stime);
	if (LOAD(task, pid) != LOAD(leader, pid)) {
		record->user_ns += LOAD(leader, utime);
		record->system_ns += LOAD(leader, stime);
	}
}

static __always_inline void process__emit(struct task_struct *task, struct image *image, __u32 tgid,
					  __u8 kind, __u8 action)
{
	struct task_struct *parent = LOAD(task, real_parent, group_leader);
	struct evt_process *record = RING_RESERVE(processes, struct evt_process);

	if (!record) {
		base__count(COUNTER_PROCESS_RING_FULL);
		return;
	}
	task__fill_header(&record->header, kind, action);
	record->header.cgroup_id = LOAD(LOAD(task, cgroups, dfl_cgrp), kn, id);
	record->header.exec_id = image->exec_id;
	record->header.start_ns = image->start_ns;
	record->header.tgid = tgid;
	record->ppid = LOAD(parent, tgid);
	record->parent_start_ns = LOAD(parent, start_boottime);
	record->user_ns = 0;
	record->system_ns = 0;
	record->max_rss_pages = 0;
	record->exit_code = 0;
	if (kind == EVT_PROCESS_EXITS) {
		process__fill_times(record, task);
		record->max_rss_pages = LOAD(task, signal, maxrss);
		record->exit_code = LOAD(task, signal, group_exit_code);
		if (!record->exit_code)
			record->exit_code = LOAD(task, exit_code);
	}
	RING_SUBMIT(processes, record, NO_WAKEUP);
}

/* CLONE_INTO_CGROUP raises no attach event: the child's own cgroup counts as well as the parent's. */
TRACEPOINT(sched_process_fork, handle_fork, struct task_struct *parent, struct task_struct *child)
{
	struct image image = {};
	struct image *known;
	__u32 tgid;

	if (!scope__current() && !scope__cgroup(LOAD(child, cgroups, dfl_cgrp)))
		return 0;
	tgid = LOAD(child, tgid);
	if (tgid != (__u32)LOAD(child, pid))
		return 0; /* a thread */
	__u32 parent_tgid = LOAD(parent, tgid);

	known = MAP_LOOKUP(images, &parent_tgid);
	if (known)
		image.exec_id = known->exec_id;
	image.start_ns = LOAD(child, start_boottime);
	if (scope__cgroup(LOAD(child, cgroups, dfl_cgrp)))
		task__remember(tgid, &image);
	process__emit(child, &image, tgid, EVT_PROCESS_FORKS, EVT_PROCESS_FORKS_FORK);
	return 0;
}

/* Several threads can pass here after the last of them was counted off: the first one tells the end. */
static __always_inline bool process__is_last(struct task_struct *task, __u32 tgid)
{
	struct ended_key key = {.tgid = tgid};
	__u32 one = 1;

	if (LOAD(task, signal, live.counter) != 0)
		return false; /* other threads go on */
	if (LOAD(task, signal, nr_threads) == 1)
		return true; /* no other thread is left that could come */
	key.start_ns = LOAD(task, group_leader, start_boottime);
	return MAP_INSERT(ended, &key, &one) == 0;
}

TRACEPOINT(sched_process_exit, handle_exit, struct task_struct *task)
{
	struct image image;
	__u32 tgid;

	if (!scope__current())
		return 0;
	tgid = bpf_get_current_pid_tgid() >> 32;
	if (!process__is_last(task, tgid))
		return 0;
	task__current(&image);
	MAP_DELETE(images, &tgid);
	process__emit(task, &image, tgid, EVT_PROCESS_EXITS, EVT_PROCESS_EXITS_EXIT);
	return 0;
}
