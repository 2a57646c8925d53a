/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * smd: options, start in order, a ticker, signals, stop in reverse order.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/api/watch.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/control.h"
#include "daemon/job/job.h"
#include "daemon/job/lasting.h"
#include "daemon/job/process.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/journald.h"
#include "daemon/rpc/http.h"
#include "daemon/rpc/pool.h"
#include "daemon/rpc/record.h"
#include "daemon/rpc/rpc.h"
#include "daemon/rpc/session.h"
#include "daemon/rpc/tls.h"
#include "daemon/sr/sr.h"

#define STOP_GRACE_MS 5000u	/* for requests that are running when we stop */
#define POOL_TOUCH_S 300	/* idle watchers of events see a sign of life */
#define TRIM_S 30		/* what was freed goes back to the system */
#define LARGE (1 << 20)		/* at once, of what is as large: replies */
#define DESCRIPTORS 65536u	/* as smd.service has it */

struct options {
	bool foreground;
	bool make_certificate;
	const char *config_path;	/* NULL: the usual one, which may be missing */
};

/* What main owns beside struct daemon. */
struct server {
	struct daemon daemon;
	struct config *config;
	struct http *http;
	char *state_dir;
	int lock_fd;
	int ready_fd;		/* background start: the waiting parent; -1: none */
	char *status;		/* as the service manager knows it; NULL: not told */
	atomic_bool scanning;	/* the round of scans before has not ended */
};

static void
usage(FILE *to)
{
	fputs("Usage: smd [OPTION]...\n"
	      "The storage-manager daemon: SRs, VDIs and their migration, with xapi's API.\n"
	      "\n"
	      "  --foreground         stay in the foreground\n"
	      "  --config FILE        read this configuration instead of " SMD_SYSCONFDIR "/smd.conf\n"
	      "  --state-dir DIR      keep the database here\n"
	      "  --socket PATH        serve this unix socket (\"none\": no unix socket)\n"
	      "  --listen ADDR:PORT   serve TCP here too; may be repeated\n"
	      "  --listen-tls ADDR:PORT   the same with TLS\n"
	      "  --make-certificate   make a certificate and its key for TLS, and end\n"
	      "  --plugin-dir DIRS    find plugins here (separated by colons)\n"
	      "  --help               this text\n"
	      "  --help-config        the keys of the configuration file\n"
	      "  --version            the version\n"
	      "\n"
	      "Options win over the configuration file. See smd(8) and smd.conf(5).\n", to);
}

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, 'F' },
	{ "config", required_argument, NULL, 'c' },
	{ "state-dir", required_argument, NULL, 'd' },
	{ "socket", required_argument, NULL, 's' },
	{ "listen", required_argument, NULL, 'l' },
	{ "listen-tls", required_argument, NULL, 'L' },
	{ "make-certificate", no_argument, NULL, 'M' },
	{ "plugin-dir", required_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ "help-config", no_argument, NULL, 'H' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* Fill options and the configuration from the command line. Returns 0 to go on, or
 * 1 + the status to exit with. */
static int
parse_options(int argc, char **argv, struct options *o, struct config *config,
	      struct smd_error *err)
{
	int c, rc = 0;

	while (rc == 0 && (c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'F':
			o->foreground = true;
			break;
		case 'c':
			o->config_path = optarg;
			break;
		case 'd':
			rc = config_set(config, "state_dir", optarg, err);
			break;
		case 's':
			rc = config_set(config, "socket", optarg, err);
			break;
		case 'l':
			rc = config_set(config, "listen", optarg, err);
			break;
		case 'L':
			rc = config_set(config, "listen_tls", optarg, err);
			break;
		case 'M':
			o->make_certificate = true;
			break;
		case 'p':
			rc = config_set(config, "plugin_dir", optarg, err);
			break;
		case 'h':
			usage(stdout);
			return 1;
		case 'H':
			config_print_keys();
			return 1;
		case 'V':
			puts("smd " SMD_VERSION);
			return 1;
		default:
			usage(stderr);
			return 1 + 2;
		}
	}
	if (rc == 0 && optind != argc) {
		usage(stderr);
		return 1 + 2;
	}
	return rc;
}

/* ---- Where things are -------------------------------------------------------- */

/* $VARIABLE/smd, or fallback below the home directory. */
static char *
user_dir(const char *variable, const char *fallback)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	const struct passwd *pw;

	if (base && *base == '/')
		return smd_asprintf("%s/smd", base);
	if (!home && (pw = getpwuid(getuid())))
		home = pw->pw_dir;
	return smd_asprintf("%s/%s/smd", home ? home : "", fallback);
}

static char *
default_state_dir(void)
{
	return geteuid() == 0 ? smd_strdup(SMD_STATEDIR)
			      : user_dir("XDG_STATE_HOME", ".local/state");
}

static char *
default_socket(void)
{
	CLEANUP_FREE char *dir = NULL;

	if (geteuid() == 0)
		return smd_strdup("/run/smd/smd.sock");
	dir = user_dir("XDG_RUNTIME_DIR", ".local/run");
	return smd_asprintf("%s/smd.sock", dir);
}

/* mkdir -p; the last one private when it is made. */
static int
make_dirs(const char *path, struct smd_error *err)
{
	CLEANUP_FREE char *copy = smd_strdup(path);

	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, c ? 0755 : 0700) != 0 && errno != EEXIST)
			return smd_fail_INTERNAL_ERROR(err, copy, "cannot make %s: %s", copy,
						       strerror(errno));
		*p = c;
		if (c == '\0')
			return 0;
	}
}

/* The directories of "A:B" that exist, each followed by its subdirectory sub. */
static char *
plugin_path(const char *dirs, const char *sub)
{
	CLEANUP_FREE char *copy = smd_strdup(dirs);
	char *path = smd_strdup("");

	for (char *save = NULL, *dir = strtok_r(copy, ":", &save); dir;
	     dir = strtok_r(NULL, ":", &save)) {
		CLEANUP_FREE char *below = smd_asprintf("%s/%s", dir, sub);
		const char *const both[] = { dir, below };

		for (size_t i = 0; i < 2; i++) {
			char *longer;

			if (access(both[i], R_OK | X_OK) != 0)
				continue;
			longer = smd_asprintf("%s%s%s", path, *path ? ":" : "", both[i]);
			free(path);
			path = longer;
		}
	}
	return path;
}

static char *
config_or(const struct config *config, const char *key, const char *variable,
	  const char *fallback)
{
	char *value = config_str(config, key);

	if (*value)
		return value;
	free(value);
	if (variable && getenv(variable))
		return smd_strdup(getenv(variable));
	return smd_strdup(fallback);
}

/* ---- Start ------------------------------------------------------------------- */

static enum smd_log_level
log_level(const struct config *config)
{
	CLEANUP_FREE char *text = config_str(config, "log_level");
	enum smd_log_level level = SMD_LOG_INFO;

	smd_log_level_parse(text, &level);
	return level;
}

static void
start_log(const struct config *config)
{
	CLEANUP_FREE char *target = config_str(config, "log_target");
	bool journal = strcmp(target, "journal") == 0 ||
		       (strcmp(target, "auto") == 0 && getenv("JOURNAL_STREAM"));

	smd_log_init("smd", journal ? journald_log : NULL, log_level(config));
}

/* One daemon a state directory. A lock of the process, and not of its file: one that was
 * killed as it started a worker has a child for a moment, which would keep the other kind. */
static int
lock_state_dir(struct server *s, struct smd_error *err)
{
	CLEANUP_FREE char *path = smd_asprintf("%s/lock", s->state_dir);
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return smd_fail_INTERNAL_ERROR(err, path, "cannot open %s: %s", path,
					       strerror(errno));
	if (fcntl(s->lock_fd, F_SETLK, &all) != 0)
		return smd_fail_INTERNAL_ERROR(err, path, "another smd uses %s", s->state_dir);
	return 0;
}

static int
start_state_dir(struct server *s, struct smd_error *err)
{
	s->state_dir = config_str(s->config, "state_dir");
	if (!*s->state_dir) {
		free(s->state_dir);
		s->state_dir = default_state_dir();
		if (config_set(s->config, "state_dir", s->state_dir, err) != 0)
			return -1;
	}
	return make_dirs(s->state_dir, err);
}

static int
start_state(struct server *s, struct smd_error *err)
{
	CLEANUP_FREE char *path = NULL;

	if (start_state_dir(s, err) != 0 || lock_state_dir(s, err) != 0)
		return -1;
	path = smd_asprintf("%s/smd.db", s->state_dir);
	if (db_open(path, &s->daemon.db, err) != 0)
		return -1;
	db_reserve_log(s->daemon.db);
	return 0;
}

static int
start_storage(struct server *s, struct smd_error *err)
{
	CLEANUP_FREE char *dirs = config_or(s->config, "plugin_dir", "SMD_PLUGIN_PATH",
					    SMD_PLUGINDIR);
	CLEANUP_FREE char *worker = config_or(s->config, "worker", "SMD_WORKER", SMD_WORKER);
	CLEANUP_FREE char *formats = plugin_path(dirs, "format");
	CLEANUP_FREE char *drivers = plugin_path(dirs, "sr");

	if (!*formats)
		return smd_fail_INTERNAL_ERROR(err, dirs, "no plugin directory of %s can be read",
					       dirs);
	if (config_set(s->config, "worker", worker, err) != 0)
		return -1;
	return storage_start(&s->daemon, drivers, formats, err);
}

static int
start_handlers(struct smd_error *err)
{
	static const struct call_binding *const tables[] = {
		api_event_handlers, api_generic_handlers, api_host_handlers, api_measure_handlers,
		api_message_handlers,
		api_network_handlers, api_pbd_handlers, api_pool_handlers, api_session_handlers,
		api_sm_handlers, api_sr_handlers, api_system_handlers, api_task_handlers,
		api_vbd_handlers, api_vdi_handlers,
		api_vdi_cbt_handlers, api_vdi_chain_handlers, api_vdi_snapshot_handlers, api_vm_handlers,
		NULL,
	};

	return call_bind(tables, err);
}

static int
start_http(struct server *s, struct smd_error *err)
{
	static const struct http_route routes[] = {
		{ "POST", "/", rpc_xml, NULL },
		{ "POST", "/json", rpc_json, NULL },
		{ "GET", "/export_raw_vdi", NULL, &api_export_raw_vdi },
		{ "HEAD", "/export_raw_vdi", NULL, &api_head_raw_vdi },
		{ "PUT", "/import_raw_vdi", NULL, &api_import_raw_vdi },
		{ "GET", "/export_image", NULL, &api_export_image },
		{ "PUT", "/import_image", NULL, &api_import_image },
		{ NULL, NULL, NULL, NULL },
	};
	CLEANUP_FREE char **tcp = config_list(s->config, "listen");
	CLEANUP_FREE char **tls = config_list(s->config, "listen_tls");
	CLEANUP_FREE char *path = config_str(s->config, "socket");
	CLEANUP_FREE char *unix_listener = NULL;
	CLEANUP_FREE const char **listeners = NULL;
	int fds[64];
	int n_fds = sd_listen_fds(1);
	size_t n = 0;

	while (tcp[n])
		n++;
	listeners = smd_calloc(n + 2, sizeof *listeners);
	memcpy(listeners, tcp, n * sizeof *listeners);
	if (!*path && n_fds <= 0) {
		free(path);
		path = default_socket();
	}
	if (*path && strcmp(path, "none") != 0) {
		CLEANUP_FREE char *dir = smd_strndup(path, (size_t)(strrchr(path, '/') ?
						     strrchr(path, '/') - path : 0));

		if (*dir && make_dirs(dir, err) != 0)
			return -1;
		unix_listener = smd_asprintf("unix:%s", path);
		listeners[n++] = unix_listener;
	}
	if (n_fds < 0 || n_fds > 64)
		n_fds = 0;
	for (int i = 0; i < n_fds; i++)
		fds[i] = SD_LISTEN_FDS_START + i;
	if (n == 0 && n_fds == 0 && !tls[0])
		return smd_fail_INVALID_VALUE(err, "listen", "", "there is nothing to listen on");
	return http_start(&s->daemon, routes, listeners, (const char *const *)tls, fds,
			  (size_t)n_fds, &s->http, err);
}

static int
start(struct server *s, struct smd_error *err)
{
	struct daemon *d = &s->daemon;

	d->config = s->config;
	start_log(s->config);
	sd_notify(0, "STATUS=Opening the database");
	if (start_state(s, err) != 0)
		return -1;
	if (api_host_start(d, err) != 0 || api_pool_start(d, err) != 0 ||
	    api_network_start(d, err) != 0)
		return -1;
	d->jobs = jobs_new(d);
	d->tasks = tasks_new(d);
	stall_start(d);
	d->sessions = sessions_new(d);
	d->collector = collector_new(d);
	process_warm_start(d);
	sd_notify(0, "STATUS=Attaching storage");
	if (start_storage(s, err) != 0 || start_handlers(err) != 0 ||
	    recorder_new(d, &d->recorder, err) != 0)
		return -1;
	jobs_resume(d);
	return start_http(s, err);
}

/* What systemctl status shows. */
static void
say_status(struct server *s, const char *what)
{
	CLEANUP_FREE char *jobs = NULL, *status = NULL;

	if (!getenv("NOTIFY_SOCKET"))
		return;
	jobs = tasks_status(s->daemon.tasks);
	status = *jobs ? smd_asprintf("%s %s", what, jobs) : smd_strdup(what);
	if (s->status && strcmp(status, s->status) == 0)
		return;
	sd_notifyf(0, "STATUS=%s", status);
	free(s->status);
	s->status = TAKE_PTR(status);
}

/* Half-started is fine. */
static void
stop(struct server *s)
{
	struct daemon *d = &s->daemon;

	sd_notify(0, "STOPPING=1");
	if (d->tasks && !db_failure(d->db))
		say_status(s, "Ending");
	if (d->tasks)
		tasks_stop_all(d->tasks);
	http_stop(s->http, STOP_GRACE_MS);
	watch_stop(d);
	call_wait_background(d);
	pool_stop();
	jobs_wait(d);
	collector_stop(d->collector);
	if (d->storage)
		storage_stop(d);
	process_warm_stop();
	collector_free(d->collector);
	stall_stop();
	jobs_free(d->jobs);
	sessions_free(d->sessions);
	recorder_free(d->recorder);
	tasks_free(d->tasks);
	db_close(d->db);
	free(d->host_ref);
	free(d->pool_ref);
	free(s->state_dir);
	free(s->status);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
}

/* ---- Run --------------------------------------------------------------------- */

/* SRs with other-config:auto-scan=true (or dirty) are scanned in turn. */
static void
scan_due(struct daemon *d)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *records = NULL;

	if (db_all_records(d->db, "SR", NULL, &records, &err) != 0)
		return;
	json_object_object_foreach(records, ref, record) {
		json *other = smd_json_member(record, "other_config");
		struct smd_error scan_err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (strcmp(smd_json_str(other, "auto-scan", ""), "true") != 0 &&
		    !smd_json_member(other, "dirty"))
			continue;
		if (sr_scan(d, ref, &scan_err) != 0)
			smd_log_fields(SMD_LOG_DEBUG, SMD_FIELDS("SR", ref), "scan: %s",
				       scan_err.message);
	}
}

static void
scan_in_background(void *opaque)
{
	struct server *s = opaque;

	scan_due(&s->daemon);
	s->scanning = false;
}

static void
start_scans(struct server *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (atomic_exchange(&s->scanning, true))
		return;
	if (call_in_background(&s->daemon, scan_in_background, s, &err) != 0) {
		s->scanning = false;
		smd_log(SMD_LOG_DEBUG, "no scan now: %s", err.message);
	}
}

/* Once a second. The watchdog is fed by who has just got an answer from the
 * database: a lock that nobody gives back ends in a restart. */
static void
tick(struct server *s, uint64_t second)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct daemon *d = &s->daemon;

	if (db_exists(d->db, "pool", d->pool_ref))
		sd_notify(0, "WATCHDOG=1");
	say_status(s, "Serving");
	if (second % 10 == 0)
		tasks_collect(d->tasks);
	collect_tick(d);
	http_tick(s->http);
	control_tick(d);
	db_checkpoint(d->db);
	if (second % TRIM_S == 0)
		malloc_trim(0);
	if (second % POOL_TOUCH_S == 0 && db_touch(d->db, "pool", d->pool_ref, &err) != 0)
		smd_log(SMD_LOG_WARNING, "the pool's row: %s", err.message);
	if (second % (uint64_t)config_int(s->config, "scan_interval") == 0)
		start_scans(s);
}

static void
reload(struct server *s)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	sd_notify(0, "RELOADING=1");
	if (config_reload(s->config, &err) != 0) {
		smd_log(SMD_LOG_ERR, "configuration unchanged: %s", err.message);
	} else {
		smd_log_set_level(log_level(s->config));
		smd_log(SMD_LOG_NOTICE, "configuration read again");
	}
	sd_notify(0, "READY=1");
}

/* What is done could not be written down. Only another start can tell what of the
 * last changes is on the disk: end, and let the supervisor start us. */
static int
end_for_disk(const char *failure)
{
	smd_log(SMD_LOG_ERR, "stopping: %s", failure);
	sd_notifyf(0, "STATUS=Stopping: %s", failure);
	return -1;
}

/* Returns 0 when asked to stop, -1 for a failure. */
static int
run(struct server *s, const sigset_t *signals)
{
	const struct timespec second = { 1, 0 };

	for (uint64_t n = 1;; n++) {
		int sig = sigtimedwait(signals, NULL, &second);
		const char *failure = db_failure(s->daemon.db);

		if (failure)
			return end_for_disk(failure);
		if (sig == SIGTERM || sig == SIGINT) {
			smd_log(SMD_LOG_NOTICE, "stopping");
			return 0;
		}
		if (sig == SIGHUP)
			reload(s);
		tick(s, n);
	}
}

/* Start in the background: the parent waits until the child is ready or gone.
 * Returns in the child. */
static int
become_daemon(struct server *s)
{
	int fds[2], null;
	char ready;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return -1;
	switch (fork()) {
	case -1:
		return -1;
	case 0:
		close(fds[0]);
		s->ready_fd = fds[1];
		setsid();
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0) {
			dup2(null, STDIN_FILENO);
			dup2(null, STDOUT_FILENO);
			close(null);
		}
		return 0;
	default:
		close(fds[1]);
		_exit(read(fds[0], &ready, 1) == 1 ? 0 : 1);
	}
}

static void
say_ready(struct server *s)
{
	sd_notify(0, "READY=1\nSTATUS=Serving");
	smd_log(SMD_LOG_NOTICE, "ready");
	if (s->ready_fd >= 0) {
		if (write(s->ready_fd, "1", 1) != 1)
			smd_log(SMD_LOG_DEBUG, "nobody waits for the start");
		close(s->ready_fd);
		s->ready_fd = -1;
	}
}

/* Every thread started later inherits the mask: signals come to run() only. */
static void
block_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGHUP);
	pthread_sigmask(SIG_BLOCK, ret, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Each client has a descriptor, and each of the hundreds of images that workers look at. What
 * shells give is low for the sake of programs that use select(2). */
static void
raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* All that --make-certificate does. */
static int
make_certificate(struct server *s, struct smd_error *err)
{
	CLEANUP_FREE char *path = NULL;

	if (start_state_dir(s, err) != 0 || tls_make_certificate(s->config, &path, err) != 0)
		return -1;
	printf("%s\n", path);
	return fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct server s = { .config = config_new(), .lock_fd = -1, .ready_fd = -1 };
	struct options o = { 0 };
	sigset_t signals;
	int rc;

	umask(077);
	raise_limit();
	mallopt(M_MMAP_THRESHOLD, LARGE);
	smd_log_init("smd", NULL, SMD_LOG_INFO);
	rc = parse_options(argc, argv, &o, s.config, &err);
	if (rc > 0) {
		config_free(s.config);
		return rc - 1;
	}
	if (rc == 0)
		rc = config_read_file(s.config, o.config_path ? o.config_path :
				      SMD_SYSCONFDIR "/smd.conf", o.config_path != NULL, &err);
	if (o.make_certificate) {
		if (rc == 0)
			rc = make_certificate(&s, &err);
		if (rc != 0)
			smd_log(SMD_LOG_ERR, "%s", err.message);
		free(s.state_dir);
		config_free(s.config);
		return rc == 0 ? 0 : 1;
	}
	if (rc == 0 && !o.foreground && become_daemon(&s) != 0)
		rc = smd_fail_INTERNAL_ERROR(&err, "fork", "cannot start in the background: %s",
					     strerror(errno));
	block_signals(&signals);
	if (rc == 0)
		rc = start(&s, &err);
	if (rc == 0) {
		say_ready(&s);
		rc = run(&s, &signals);
	} else {
		smd_log(SMD_LOG_ERR, "%s", err.message);
	}
	stop(&s);
	config_free(s.config);
	return rc == 0 ? 0 : 1;
}
