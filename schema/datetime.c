/* SPDX-License-Identifier: BSD-2-Clause */
/* The spellings of a datetime clients use, brought to the one the API writes. */
#include "schema/datetime.h"

#include <string.h>
#include <time.h>

static bool
digits(const char **p, int n, int *ret)
{
	*ret = 0;
	for (; n > 0; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		*ret = *ret * 10 + (**p - '0');
	}
	return true;
}

static bool
one_of(const char **p, const char *set)
{
	if (**p == '\0' || !strchr(set, **p))
		return false;
	(*p)++;
	return true;
}

static bool
date(const char **p, struct tm *tm)
{
	bool hyphens;

	if (!digits(p, 4, &tm->tm_year))
		return false;
	hyphens = one_of(p, "-");
	if (!digits(p, 2, &tm->tm_mon) || (hyphens && !one_of(p, "-")) ||
	    !digits(p, 2, &tm->tm_mday))
		return false;
	tm->tm_year -= 1900;
	tm->tm_mon--;
	return true;
}

static bool
clock_time(const char **p, struct tm *tm)
{
	if (!digits(p, 2, &tm->tm_hour) || !one_of(p, ":") || !digits(p, 2, &tm->tm_min) ||
	    !one_of(p, ":") || !digits(p, 2, &tm->tm_sec))
		return false;
	if (one_of(p, ".,")) {
		if (!one_of(p, "0123456789"))
			return false;
		while (one_of(p, "0123456789"))
			;
	}
	return true;
}

/* Seconds to take away. RFC 3339: Z, or +hh:mm; xapi's parser also takes +hhmm. */
static bool
zone(const char **p, int *ret_seconds)
{
	int hours, minutes, sign = **p == '-' ? -1 : 1;

	*ret_seconds = 0;
	if (**p == '\0' || one_of(p, "Zz"))
		return true;
	if (!one_of(p, "+-") || !digits(p, 2, &hours))
		return false;
	one_of(p, ":");
	if (!digits(p, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

static bool
in_calendar(const struct tm *tm)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year = tm->tm_year + 1900;
	int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return tm->tm_mon >= 0 && tm->tm_mon < 12 && tm->tm_mday >= 1 &&
	       tm->tm_mday <= days[tm->tm_mon] + (tm->tm_mon == 1 ? leap : 0) &&
	       tm->tm_hour < 24 && tm->tm_min < 60 && tm->tm_sec <= 60;
}

bool
api_datetime_normal(const char *text, char ret[API_DATETIME_LEN + 1])
{
	struct tm tm = { 0 };
	int offset;
	time_t t;

	if (!date(&text, &tm) || !one_of(&text, "Tt ") || !clock_time(&text, &tm) ||
	    !zone(&text, &offset) || *text != '\0' || !in_calendar(&tm))
		return false;
	t = timegm(&tm) - offset;
	return gmtime_r(&t, &tm) && tm.tm_year >= -900 && tm.tm_year <= 8099 &&
	       strftime(ret, API_DATETIME_LEN + 1, "%Y%m%dT%H:%M:%SZ", &tm) > 0;
}
