/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Paths by walking dentries and mounts: bpf_d_path is not allowed where the sensor needs it. */
#ifndef LIMES_PATH_H
#define LIMES_PATH_H

#include "base.h"

#define PATH_COMPONENTS_MAX 32

/*
 * Writes the path of (mnt, dentry), as seen from the root of its mount namespace, into a slot of `size`
 * bytes (a power of two) from the end, NUL-ended, and its offset in the slot to *start. Returns false when
 * the front did not fit. A name is written at [position - length, position): inside the slot always, but
 * the verifier adds the two ranges, so the slot must be followed by `size` more bytes of the same record.
 *
 * The position is kept in the record, not in a variable: what is read back from there is unknown to the
 * verifier, so that each turn of the loop looks like the one before and is verified once.
 */
static __always_inline bool path__write(char *slot, __u32 size, __u16 *start, struct vfsmount *mnt,
					struct dentry *dentry)
{
	struct mount *mount = container_of(mnt, struct mount, mnt);
	struct dentry *root = READ(mount, mnt.mnt_root);

	slot[size - 1] = 0;
	*start = size - 1;
	for (int i = 0; i < PATH_COMPONENTS_MAX; i++) {
		struct dentry *parent = READ(dentry, d_parent);
		struct mount *above;
		__u64 length, position;

		if (dentry == root) {
			above = READ(mount, mnt_parent);
			if (above == mount) {
				if (*start == size - 1)
					slot[--*start & (size - 1)] = '/';
				return true;
			}
			dentry = READ(mount, mnt_mountpoint);
			mount = above;
			root = READ(mount, mnt.mnt_root);
			continue;
		}
		length = READ(dentry, d_name.len);
		position = *start & (size - 1);
		if (length >= position)
			return false;
		position = (position - length) & (size - 1);
		length &= size - 1; /* it is below position: this tells the verifier */
		bpf_probe_read_kernel(slot + position, length, READ(dentry, d_name.name));
		position = (position - 1) & (size - 1);
		slot[position] = '/';
		*start = position;
		if (dentry == parent) /* not in any tree: a memfd or a detached file */
			return true;
		dentry = parent;
	}
	return false;
}

#endif /* LIMES_PATH_H */
