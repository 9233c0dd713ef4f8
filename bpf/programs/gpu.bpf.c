/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ioctls on GPU device nodes, chosen by device number: drivers ignore the command's type byte, so a
 * filter on it can be dodged. Calls are counted in a per-CPU hash; the first call of a process on a
 * device is a record at once. The hook is the LSM's position in ioctl(2), as fentry; its compat twin
 * where the kernel has one (6.8, or backported); under the tracepoint plan sys_enter, which finds the
 * file by its descriptor and does not see 32-bit callers. Kernel launches are no ioctls: not seen.
 */
#include "task.h"

#define MAX_MAJORS 4096
#define MAX_GPU_NODES 256
#define MAX_GPU_SEEN 16384

/* What a major number means: 0 no GPU, 1 every minor is one, 2 those listed in gpu_nodes. */
MAP_ARRAY(gpu_majors, __u32, MAX_MAJORS);
MAP_HASH(gpu_nodes, __u32, __u32, MAX_GPU_NODES);

struct gpu_seen_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 device;
};

MAP_HASH(gpu_seen, struct gpu_seen_key, __u32, MAX_GPU_SEEN);
MAP_PERCPU_HASH(gpu_cells, struct gpu_cell_key, struct gpu_cell, MAX_GPU_CELLS);
MAP_RING(gpus, RING_BYTES_GPUS);

static __always_inline bool gpu__is_device(__u32 device)
{
	__u32 major = device >> 20;
	__u32 *class = MAP_LOOKUP(gpu_majors, &major);

	if (!class || *class == 0)
		return false;
	return *class == 1 || MAP_LOOKUP(gpu_nodes, &device);
}

static __always_inline void gpu__emit_first(struct gpu_cell_key *key)
{
	struct evt_gpu *record = RING_RESERVE(gpus, struct evt_gpu);

	if (!record) {
		base__count(COUNTER_GPU_RING_FULL);
		return;
	}
	task__fill_header(&record->header, EVT_GPU_EVENTS, EVT_GPU_EVENTS_FIRST_CALL);
	record->header.cgroup_id = key->cgroup_id;
	record->header.exec_id = key->exec_id;
	record->header.start_ns = key->start_ns;
	record->header.tgid = key->tgid;
	record->device_major = key->device >> 20;
	record->device_minor = key->device & 0xfffff;
	record->command = key->command;
	record->_pad = 0;
	RING_SUBMIT(gpus, record, NO_WAKEUP);
}

/* A new cell is the only moment at which a process can be new on a device. */
static __always_inline void gpu__new_cell(struct gpu_cell_key *key)
{
	struct gpu_cell cell = {.calls = 1};
	struct gpu_seen_key seen = {
		.start_ns = key->start_ns, .tgid = key->tgid, .device = key->device};
	__u32 one = 1;
	int error;

	cell.first_ns = bpf_ktime_get_boot_ns();
	cell.last_ns = cell.first_ns;
	if (MAP_UPDATE(gpu_cells, key, &cell))
		base__count(COUNTER_GPU_CELLS_FULL);
	error = MAP_INSERT(gpu_seen, &seen, &one);
	if (error == -17 /* EEXIST */)
		return;
	if (error)
		base__count(COUNTER_GPU_SEEN_FULL);
	gpu__emit_first(key);
}

static __always_inline int gpu__count(__u32 device, __u32 command)
{
	struct gpu_cell_key key = {};
	struct gpu_cell *cell;
	struct image image;

	key.tgid = task__current(&image);
	key.cgroup_id = bpf_get_current_cgroup_id();
	key.exec_id = image.exec_id;
	key.start_ns = image.start_ns;
	key.device = device;
	key.command = command;
	cell = MAP_LOOKUP(gpu_cells, &key);
	if (!cell) {
		gpu__new_cell(&key);
		return 0;
	}
	/* fentry programs can be preempted: another task's update of this cell may slip in between. */
	__sync_fetch_and_add(&cell->calls, 1);
	cell->last_ns = bpf_ktime_get_boot_ns();
	return 0;
}

/* Plain loads and an array, no helper, until the file is known to be a GPU: this runs for every ioctl of
 * the host. */
static __always_inline int gpu__ioctl(struct file *file, __u32 command)
{
	struct inode *inode;
	__u32 device;

	if (!scope__current())
		return 0;
	inode = LOAD(file, f_inode);
	device = LOAD(inode, i_rdev);
	if (device < SETTING(gpu_lowest_major) << 20 || !gpu__is_device(device))
		return 0;
	return gpu__count(device, command);
}

FENTRY(security_file_ioctl, handle_ioctl, struct file *file, unsigned int command)
{
	return gpu__ioctl(file, command);
}

FENTRY(security_file_ioctl_compat, handle_ioctl_compat, struct file *file, unsigned int command)
{
	return gpu__ioctl(file, command);
}

#if defined(__TARGET_ARCH_x86)
#define SYSCALL_IOCTL 16

TRACEPOINT(sys_enter, handle_sys_enter, struct pt_regs *regs, long number)
{
	struct task_struct *task;
	struct fdtable *table;
	struct file **files, *file = 0;
	__u32 descriptor, device;

	if (!scope__current())
		return 0;
	if (number != SYSCALL_IOCTL)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	descriptor = READ(regs, di);
	table = READ(task, files, fdt);
	if (descriptor >= READ(table, max_fds))
		return 0;
	files = READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + descriptor);
	device = file ? READ(file, f_inode, i_rdev) : 0;
	if (device < SETTING(gpu_lowest_major) << 20 || !gpu__is_device(device))
		return 0;
	return gpu__count(device, READ(regs, si));
}
#endif
