/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the daemon talks to smd-worker, one process a job.
 *
 * The daemon starts `smd-worker --formats DIRS` with descriptors from 3 up and
 * writes one line of JSON to its standard input, the request. The worker loads
 * the modules, closes itself in (Landlock: no path; seccomp: an allow-list; no
 * new privileges; limits of memory, CPU and what it may write; no environment), and only then
 * looks at a byte of an image. It answers with lines of JSON on its standard
 * output:
 *
 *   {"progress":{"done":N,"total":N}}	ten a second, or one for each 2%
 *   {"begin":{"size":N}}		export only: the bytes that will come
 *   {"verify":true}		all is written, and is read back from now on
 *   {"made":true}		create with "hide" only: the images are written
 *   {"mark":{"done":N}}		convert with marks: so many of progress's bytes need
 *				not be done again, whatever happens
 *   {"result":{…}}			once, last
 *   {"error":{"code","params","message","errno"}}	once, last
 *
 * and exits 0 after either of the last two; an empty line says nothing. Any other end is
 * JOB_WORKER_FAILED. A line is at most WORKER_LINE_MAX bytes. The daemon cancels
 * by killing the process; the worker has nothing to clean up.
 *
 * With --fork a worker is started ahead of its jobs, and does none: it loads the modules
 * and forks a child ahead of each job. Its standard input is a socket of packets, and nothing
 * of a job's is ever there: it sends the child's pid, or a negative errno, as int32_t, and with
 * the pid a socket of packets (SCM_RIGHTS); then one byte asks for the next child. On the
 * child's socket one byte brings the job's descriptors (SCM_RIGHTS), standard input, output and
 * error first. The child's parent is the daemon, and in all else it is as if it had been
 * started for its job. At the ends of their sockets, both end.
 *
 * While an operation that moves data runs, more lines on standard input change how.
 * Each may come at any time, before the first byte too, and as often as wanted. Their
 * end (EOF) means nothing.
 *
 *   {"bytes_per_second":N}	from now on; 0: no limit. Any such request may say it, too
 *   {"pause":true|false}	what is begun is finished and marked, then nothing moves
 *   {"stop":true}		the same, then the end: {"error":{"code":"JOB_STOPPED"…}}. Those
 *				that make no marks stop as well, to be begun again
 *
 * What a worker is about to read from a pipe or a disk comes first: a client that sends
 * nothing is not hurried by them.
 *
 *   {"wall":…}			before an end by a signal, or an error: which limit or
 *				denied system call it was
 *
 *   {"denied":…}		a path that was asked for, and that it goes on without
 *
 * Any request may have "limits":{"memory":N,"cpu_seconds":N}, of its address space and, for
 * those that move no data, its processor time; those that write an image that is there,
 * "quota":N, the size of its disk, which is about what the file may grow to.
 *
 * Requests ("fd" is a descriptor number the worker was given):
 *   {"op":"formats"}			also "sandbox": which walls this kernel has
 *   {"op":"create",  "target":T, "more":[T…], "hide":S}	more: of the same size; they are
 *	written, and the daemon syncs them. hide: it tells when they are, and waits for a
 *	line, {"hide":b}, by which the first image of S is marked hidden or not
 *   {"op":"make",    "fd":N}	many of them: fd, the first of its descriptors, is a socket of
 *	packets, each a T of at most PACKET_TEXT_MAX bytes (no parents, no "fd") with the
 *	new file's descriptor (SCM_RIGHTS). Each is answered with a line, a result or an error,
 *	once the image is written: the daemon syncs it. It reads no image, ever, so that
 *	one process may write many. It ends with the socket
 *   {"op":"info",    "source":S}
 *   {"op":"look",    "images":[{"fd":N,"name":…,"format":…}…]}
 *	info of many, {"images":[its answer or {"error":E}…]}, without the format's own part
 *	and what is false; where that leaves "virtual-size" alone, this number in its place
 *   {"op":"looks",   "fd":N}	look, many times: fd, the first of its descriptors, is a socket of
 *	packets, each an array [format, name, format, name…] of at most PACKET_TEXT_MAX bytes with
 *	a descriptor for each pair (SCM_RIGHTS), at most PACKET_FDS_MAX; or a number alone, of
 *	images that struct shown says enough of, in a file that it may read, the second of its
 *	descriptors. Each is answered with a line, {"images":…} as look's; null in the place of
 *	an answer: more of the image is needed than is shown. It ends with the socket
 *   {"op":"own",     "source":S}		of the first layer alone
 *   {"op":"blocks",  "source":S, "base":S, "fd":N}	a set of blocks, to a file: where the two
 *	may differ, or without base what the first layer alone says (common/blocks.h)
 *   {"op":"hide",    "source":S, "hidden":b}	the same
 *   {"op":"convert", "source":S, "target":T, "verify":b, "threads":N, "compress":b,
 *    "digest":b, "spare_cache":b, "marks":{"fd":N}}	spare_cache: what is written leaves the
 *	page cache again, right behind
 *	marks: an open regular file of the job's own, read and write, empty at first. After
 *	any end but a result the same request goes on from its last mark, with the same
 *	target file, not emptied, and the same marks; where that cannot be, it makes the target
 *	anew and says why in "started_over". ENOSPC and JOB_STOPPED leave a mark, too.
 *	{"virtual-size","data","written","shared","zero","seconds":…, "resumed_at":N,
 *	 "digest":"xxh3-pages:…", "source_digest":…, "started_over":"…"}: resumed_at is
 *	where on the disk this run began, 0: at its start. digest is the target disk's
 *	content, the same as smd-img checksum's; source_digest is another one only where the disks
 *	have different sizes. Of an overlay it is found by what the copy changed, and the
 *	"digest_sum" of the disk that it lies on, which T's "below_sum" says. Without one
 *	"digest_absent" says why; so it does where extents were shared and neither
 *	digest nor verify is true, with which they are read.
 *	Verified with verify: VDI_COPY_FAILED, whose message names the first byte that differs
 *   {"op":"update",  "source":S, "base":S, "onto":S, the same three}	onto, which shows
 *				what base shows, is to show what source shows
 *   {"op":"checksum", "source":S}	read all of it: {"digest","digest_sum":…}
 *   {"op":"resize",  "source":S, "size":N}
 *   {"op":"measure-merge", "source":S}	what "merge" would write, either way
 *   {"op":"merge",   "source":S, "into":"parent|child", "threads":N}
 *	S is the child with all its parents; the layer that is written was opened so.
 *	update and merge make no marks: begun again, they write what is not there yet
 *   {"op":"set-parent", "source":S, "name":…}	S: the image, and its new parent alone; or
 *	the image and no name, for none
 *   {"op":"check",   "source":S, "repair":"none|leaks|all"}
 *   {"op":"measure", "source":S|null, "size":N, "target":T without fd, "exact":b}
 *   {"op":"export",  "source":S, "format":F, "fd":N, "uuid":U, "base":S, "base_uuid":U,
 *    "coding":C}	to a pipe; U: of the image. With base an overlay that names
 *	<base_uuid>.F as its parent: what differs from base. With "offset" and "count" in
 *	the place of the rest, that part of the disk. {"digest":…} or, for ranges and
 *	overlays, "digest_absent"
 *   {"op":"export-blocks", "source":S, "format":F, "fd":N, "coding":C}	a tar of blocks
 *	(blocks.c), to a pipe; F: raw
 *   {"op":"import-raw", "source":S, "fd":N, "size":N, "declared":F, "coding":C,
 *    "framing":"|frames|blocks"}	from a pipe into S, which shows zeroes; F, where given,
 *	is what the bytes must not contradict; size is the body's, 0: not known. Frames are
 *	vhd-tool's (disk.c). {"bytes":N,"digest":…} or, where they did not come in order,
 *	"digest_absent"
 *   {"op":"spool", "fd":N, "target":T, "size":N, "coding":C}	from a pipe into T, as it
 *	comes; T says which image of which size it may be
 *   {"op":"import-image", "fd":N, "filename":…, "format":F, "size":N, "room":N, "coding":C,
 *    "volumes":[{"fd":N,"stem":…}…]}	an archive or image, from a pipe: what came is
 *	in the volumes, leaf first; format is what a filename that does not say is
 *   {"op":"export-image", "source":S, "format":F, "depth":N, "fd":N}	an archive, to a pipe
 *   S = {"layers":[{"fd":N,"name":…,"format":…}…], "write":b, "foreign":b, "direct":N}
 *   C = "gzip" or "zstd": of what goes through the pipe; absent: nothing
 *   T = {"fd":N,"name":…,"format":…,"size":N,"options":{name:value},
 *	  "parents":S, "parent_name":…, "upper":N, "below_sum":…, "direct":N}
 * direct, in a T of convert and in the S of merge: another descriptor of the file that is written,
 * opened with O_DIRECT; absent: there is none.
 * With parents, create and convert make an overlay over them that names parent_name;
 * convert then copies what the source's upper layers hold (0: what differs from
 * parents); measure counts as much.
 */
#ifndef SMD_DAEMON_WORKER_PROTOCOL_H
#define SMD_DAEMON_WORKER_PROTOCOL_H

#include <stdint.h>

#define WORKER_LINE_MAX (1u << 20)
#define WORKER_FD_FIRST 3
#define WORKER_NAME "smd-worker"		/* of processes, for ps */
#define WORKER_FORK_NAME "smd-worker-fork"
#define WORKER_NEXT_NAME "smd-worker-next"	/* a child that waits for its job */
#define WORKER_MAKE_NAME "smd-worker-make"
#define PACKET_TEXT_MAX 65536u	/* of a packet for one that stays */
#define PACKET_FDS_MAX 240u

/* What images begin with. The daemon shows the next ones after the answer. */
#define SHOWN_MAX PACKET_FDS_MAX
#define SHOWN_HEAD 2048u	/* most say no more of themselves */
struct shown {
	uint8_t heads[SHOWN_MAX][SHOWN_HEAD];	/* aligned: smd_malloc_pages says why */
	struct shown_image {
		uint64_t size, head_len;	/* of the file; of what is known of it */
		char format[32], name[256];
	} images[SHOWN_MAX];
};

#endif
