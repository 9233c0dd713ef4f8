/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * cgroup v2 directories made and removed, processes moved. Scope is decided by the target; a move out of
 * scope is seen when the process had been seen inside. v1 hierarchies raise the same tracepoints and are
 * left out. Where a process came from is known to the sensor, not to the tracepoint.
 */
#include "task.h"

MAP_RING(cgroups, RING_BYTES_CGROUPS);

static __always_inline bool cgroup__is_v2(struct cgroup *cgroup)
{
	return READ(cgroup, root, hierarchy_id) == 0;
}

static __always_inline struct evt_cgroup *cgroup__reserve(struct cgroup *cgroup, const char *path,
							  __u8 action)
{
	struct evt_cgroup *record = RING_RESERVE(cgroups, struct evt_cgroup);

	if (!record) {
		base__count(COUNTER_CGROUP_RING_FULL);
		return 0;
	}
	task__fill_current(&record->header, EVT_CGROUP_EVENTS, action);
	record->actor_cgroup_id = record->header.cgroup_id;
	record->header.cgroup_id = READ(cgroup, kn, id);
	record->level = READ(cgroup, level);
	record->subject_start_ns = 0;
	record->subject_tgid = 0;
	record->path[0] = 0;
	bpf_probe_read_kernel_str(record->path, sizeof(record->path), path);
	return record;
}

TRACEPOINT(cgroup_mkdir, handle_cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	struct evt_cgroup *record;

	if (!cgroup__is_v2(cgroup) || !scope__cgroup(cgroup))
		return 0;
	record = cgroup__reserve(cgroup, path, EVT_CGROUP_EVENTS_MKDIR);
	if (record)
		RING_SUBMIT(cgroups, record, NO_WAKEUP);
	return 0;
}

TRACEPOINT(cgroup_rmdir, handle_cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	struct evt_cgroup *record;

	if (!cgroup__is_v2(cgroup) || !scope__cgroup(cgroup))
		return 0;
	record = cgroup__reserve(cgroup, path, EVT_CGROUP_EVENTS_RMDIR);
	if (record)
		RING_SUBMIT(cgroups, record, NO_WAKEUP);
	return 0;
}

TRACEPOINT(cgroup_attach_task, handle_cgroup_attach, struct cgroup *cgroup, const char *path,
	   struct task_struct *task, bool threadgroup)
{
	bool leaves = !scope__cgroup(cgroup);
	struct evt_cgroup *record;
	__u32 tgid = READ(task, tgid);

	if (!cgroup__is_v2(cgroup))
		return 0;
	if (leaves && !MAP_LOOKUP(images, &tgid))
		return 0;
	/* Its end will not be seen: what stayed would be taken for the next process of that number. */
	if (leaves)
		MAP_DELETE(images, &tgid);
	record = cgroup__reserve(cgroup, path, EVT_CGROUP_EVENTS_ATTACH);
	if (!record)
		return 0;
	record->subject_tgid = tgid;
	record->subject_start_ns = task__start_ns(task);
	RING_SUBMIT(cgroups, record, NO_WAKEUP);
	return 0;
}
