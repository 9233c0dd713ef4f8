/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who a task is: process key, program image, cgroup. */
#ifndef LIMES_TASK_H
#define LIMES_TASK_H

#include "scope.h"

static __always_inline __u64 task__start_ns(struct task_struct *task)
{
	return READ(task, group_leader, start_boottime);
}

static __always_inline void task__remember(__u32 tgid, struct image *image)
{
	if (MAP_UPDATE(images, &tgid, image))
		base__count(COUNTER_IMAGES_FULL);
}

/* The current process: from the table, else (older than the sensor and not scanned) from the task. */
static __always_inline __u32 task__current(struct image *image)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct image *known = MAP_LOOKUP(images, &tgid);

	if (known) {
		*image = *known;
	} else {
		image->exec_id = 0;
		image->start_ns = task__start_ns((struct task_struct *)bpf_get_current_task());
	}
	return tgid;
}

static __always_inline void task__fill_header(struct evt_header *header, __u8 kind, __u8 action)
{
	header->time_ns = bpf_ktime_get_boot_ns();
	header->kind = kind;
	header->version = EVENT_ABI_VERSION;
	header->action = action;
	header->flags = 0;
}

/* Header of an event whose subject is the current process. */
static __always_inline void task__fill_current(struct evt_header *header, __u8 kind, __u8 action)
{
	struct image image;

	task__fill_header(header, kind, action);
	header->tgid = task__current(&image);
	header->cgroup_id = bpf_get_current_cgroup_id();
	header->exec_id = image.exec_id;
	header->start_ns = image.start_ns;
}

#endif /* LIMES_TASK_H */
