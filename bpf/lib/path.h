/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Paths by walking dentries and mounts: bpf_d_path is not allowed where the sensor needs it. */
#ifndef LIMES_PATH_H
#define LIMES_PATH_H

#include "base.h"

#define PATH_COMPONENTS_MAX 32

/*
 * Writes the path of (mnt, dentry), as seen from the root of its mount namespace, into a slot of `size`
 * bytes (a power of two) from the end, NUL-ended. Returns the offset where it starts; sets *cut when
 * the front did not fit. A name is written at [position - length, position): inside the slot always,
 * but the verifier adds the two ranges, so the slot must be followed by `size` more bytes of the same
 * record.
 */
static __always_inline __u32 path__write(char *slot, __u32 size, struct vfsmount *mnt,
					 struct dentry *dentry, bool *cut)
{
	struct mount *mount = container_of(mnt, struct mount, mnt);
	__u32 position = size - 1;

	slot[size - 1] = 0;
	*cut = true;
	for (int i = 0; i < PATH_COMPONENTS_MAX; i++) {
		struct dentry *parent = READ(dentry, d_parent);
		struct dentry *root = READ(mount, mnt.mnt_root);
		struct mount *above;
		__u32 length;

		if (dentry == root) {
			above = READ(mount, mnt_parent);
			if (above == mount) {
				*cut = false;
				break;
			}
			dentry = READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		length = READ(dentry, d_name.len);
		if (length >= position)
			break;
		position -= length;
		/* Ranges for the verifier: position and length are both below size. */
		position &= size - 1;
		length &= size - 1;
		bpf_probe_read_kernel(slot + position, length, READ(dentry, d_name.name));
		position = (position - 1) & (size - 1);
		slot[position] = '/';
		if (dentry == parent) { /* not in any tree: a memfd or a detached file */
			*cut = false;
			break;
		}
		dentry = parent;
	}
	if (position == size - 1) {
		position--;
		slot[position & (size - 1)] = '/';
	}
	return position;
}

#endif /* LIMES_PATH_H */
