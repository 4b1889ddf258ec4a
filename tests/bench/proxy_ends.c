/*
 * Copyright: (c) 2026, The kvmops.console authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Both ends of sessions through a proxy, nearly free: the server's bytes come from a memfd by sendfile, the client's are
 * dropped in the kernel (MSG_TRUNC). One process, so that one clock and one count of bytes serve both ends.
 *
 * proxy_ends total chunk rate ping_us read_rate seconds client:server...
 *
 *   total      bytes that each server sends; 0: until the time is over
 *   chunk      bytes that it sends at once
 *   rate       bytes a second; 0: as fast as they are taken
 *   ping_us    microseconds between a client's pointer events; 0: none. The server answers each with 10 bytes
 *   read_rate  bytes a second that each client reads; 0: all
 *   seconds    the most that this may take
 *   client     descriptor, of a WebSocket whose upgrade is done; -1: somebody else reads it
 *   server     descriptor
 *
 * Prints: seconds, bytes sent, bytes received, most bytes behind, round trips, their median and 99th percentile in us.
 *
 * proxy_ends open port path count
 *
 * Opens so many sessions, one after the other: connects, asks for the upgrade, hears the server's greeting in a frame,
 * goes. Prints the seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MOST_CHUNK (1 << 20)
#define MOST_PINGS 1000000
#define ANSWER 10

struct session {
	int client, server;
	int wants_room;
	uint64_t owed, sent, received, allowed;
	uint64_t frame_left;
	unsigned char head[14];
	unsigned have, need;
	int64_t next_chunk, next_ping, pinged_at;
	uint64_t answer_at;
};

static struct session *sessions;
static int count, epoll, memory;
static uint64_t total, chunk, rate, ping_ns, read_rate;
static uint32_t *trips;
static unsigned trip_count;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void want_room(struct session *s, int wanted)
{
	struct epoll_event event = { .data.u64 = (uint64_t)(s - sessions) * 2 + 1 };
	if (s->wants_room == wanted)
		return;
	s->wants_room = wanted;
	event.events = EPOLLIN | (wanted ? EPOLLOUT : 0);
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, s->server, &event))
		die("epoll_ctl");
}

static void push(struct session *s)
{
	int turns = 0;
	while (s->owed && turns++ < 4) {
		off_t offset = 0;
		size_t size = s->owed < chunk ? s->owed : chunk;
		ssize_t sent = sendfile(s->server, memory, &offset, size);
		if (sent < 0) {
			if (errno != EAGAIN)
				die("sendfile");
			break;
		}
		s->owed -= sent;
		s->sent += sent;
	}
	want_room(s, s->owed > 0);
}

static void answer(struct session *s)
{
	char data[600];
	ssize_t size = recv(s->server, data, sizeof data, 0);
	if (size <= 0)
		return;
	s->owed += ANSWER * (size / 6);
	s->answer_at = s->sent + s->owed;
	push(s);
}

static void ping(struct session *s, int64_t at)
{
	/* A masked frame (its mask is 0) with a PointerEvent. */
	static const unsigned char frame[12] = { 0x82, 0x86, 0, 0, 0, 0, 5, 0, 0, 3, 0, 4 };
	s->answer_at = 0;
	s->pinged_at = at;
	if (send(s->client, frame, sizeof frame, 0) != sizeof frame)
		die("send");
}

static void got_payload(struct session *s, uint64_t size)
{
	s->received += size;
	if (s->pinged_at && s->answer_at && s->received >= s->answer_at) {
		int64_t at = now();
		if (trip_count < MOST_PINGS)
			trips[trip_count++] = (uint32_t)(at - s->pinged_at);
		s->next_ping = s->pinged_at + ping_ns;
		s->pinged_at = 0;
	}
}

static int drop(struct session *s)
{
	int turns = 0;
	while (turns++ < 4) {
		ssize_t size;
		if (read_rate && !s->allowed)
			return 0;
		if (s->frame_left) {
			uint64_t most = s->frame_left;
			if (read_rate && most > s->allowed)
				most = s->allowed;
			size = recv(s->client, NULL, most, MSG_TRUNC);
			if (size <= 0)
				return size == 0;
			s->frame_left -= size;
			if (read_rate)
				s->allowed -= size;
			got_payload(s, size);
			continue;
		}
		if (!s->have)
			s->need = 2;
		size = recv(s->client, s->head + s->have, s->need - s->have, 0);
		if (size <= 0)
			return size == 0;
		s->have += size;
		if (s->have < s->need)
			continue;
		if (s->need == 2 && (s->head[1] & 127) >= 126) {
			s->need = (s->head[1] & 127) == 126 ? 4 : 10;
			continue;
		}
		s->frame_left = s->head[1] & 127;
		if (s->need > 2) {
			unsigned i;
			for (s->frame_left = 0, i = 2; i < s->need; i++)
				s->frame_left = s->frame_left << 8 | s->head[i];
		}
		s->have = 0;
	}
	return 0;
}

static int smaller(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void open_one(int port, const char *path)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char data[4096];
	int client = socket(AF_INET, SOCK_STREAM, 0), have = 0;
	int size = snprintf(data, sizeof data,
			    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			    "Sec-WebSocket-Protocol: binary\r\n\r\n",
			    path, port);
	if (connect(client, (struct sockaddr *)&to, sizeof to) || send(client, data, size, 0) != size)
		die("connect");
	for (;;) {
		char *end;
		ssize_t got = recv(client, data + have, sizeof data - 1 - have, 0);
		if (got <= 0)
			die("recv");
		have += got;
		data[have] = 0;
		end = memmem(data, have, "\r\n\r\n", 4);
		if (end && data + have - (end + 4) >= 14)
			break;
	}
	close(client);
}

static int open_many(char **word)
{
	int number = atoi(word[4]);
	int64_t begin = now();
	while (number--)
		open_one(atoi(word[2]), word[3]);
	printf("%.6f\n", (now() - begin) / 1e9);
	return 0;
}

int main(int words, char **word)
{
	int i, timer, open_ends = 0;
	int64_t begin, end, tick = 5000000, last;
	uint64_t behind = 0, sent = 0, received = 0;
	double seconds;
	struct epoll_event events[256];

	if (words == 5 && !strcmp(word[1], "open"))
		return open_many(word);
	if (words < 8)
		return 2;
	total = strtoull(word[1], 0, 10);
	chunk = strtoull(word[2], 0, 10);
	rate = strtoull(word[3], 0, 10);
	ping_ns = strtoull(word[4], 0, 10) * 1000;
	read_rate = strtoull(word[5], 0, 10);
	seconds = strtod(word[6], 0);
	count = words - 7;
	sessions = calloc(count, sizeof *sessions);
	trips = calloc(MOST_PINGS, sizeof *trips);
	epoll = epoll_create1(0);
	memory = memfd_create("screen", 0);
	if (chunk > MOST_CHUNK || ftruncate(memory, MOST_CHUNK))
		return 2;
	{
		char *pixels = mmap(0, MOST_CHUNK, PROT_WRITE, MAP_SHARED, memory, 0);
		for (i = 0; i < MOST_CHUNK; i++)
			pixels[i] = (char)(i * 2654435761u >> 24);
	}
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	begin = last = now();
	end = begin + (int64_t)(seconds * 1e9);
	for (i = 0; i < count; i++) {
		struct session *s = sessions + i;
		struct epoll_event event = { .events = EPOLLIN };
		if (sscanf(word[7 + i], "%d:%d", &s->client, &s->server) != 2)
			return 2;
		fcntl(s->server, F_SETFL, fcntl(s->server, F_GETFL) | O_NONBLOCK);
		event.data.u64 = i * 2 + 1;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, s->server, &event))
			die("epoll_ctl");
		if (s->client >= 0) {
			fcntl(s->client, F_SETFL, fcntl(s->client, F_GETFL) | O_NONBLOCK);
			event.data.u64 = i * 2;
			if (!read_rate && epoll_ctl(epoll, EPOLL_CTL_ADD, s->client, &event))
				die("epoll_ctl");
			open_ends++;
		}
		s->next_chunk = begin + (rate ? (int64_t)(i * (chunk * 1000000000ull / rate) / count) : 0);
		s->next_ping = begin + 1000000LL * i;
		if (!rate) {
			s->owed = total ? total : 1ull << 50;
			if (!ping_ns || total)
				push(s);
			else
				s->owed = 0;
		}
	}
	{
		struct epoll_event event = { .events = EPOLLIN, .data.u64 = UINT64_MAX };
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event))
			die("epoll_ctl");
	}
	for (;;) {
		int64_t at = now(), next = end;
		int found, done = 1;
		sent = received = 0;
		for (i = 0; i < count; i++) {
			struct session *s = sessions + i;
			if (rate) {
				while (s->next_chunk <= at && (!total || s->sent + s->owed < total)) {
					s->owed += chunk;
					s->next_chunk += chunk * 1000000000ull / rate;
				}
				if (s->owed && !s->wants_room)
					push(s);
				if ((!total || s->sent + s->owed < total) && s->next_chunk < next)
					next = s->next_chunk;
			}
			if (ping_ns && !s->pinged_at && s->next_ping <= at)
				ping(s, at);
			if (ping_ns && !s->pinged_at && s->next_ping < next)
				next = s->next_ping;
			if (read_rate) {
				s->allowed += read_rate * (at - last) / 1000000000ull;
				if (s->allowed > read_rate / 50)
					s->allowed = read_rate / 50;
				if (drop(s))
					goto over;
				if (at + tick < next)
					next = at + tick;
			}
			sent += s->sent;
			received += s->received;
			if (s->client >= 0 ? s->received < total : s->sent < total)
				done = 0;
			if (s->client >= 0 && s->sent > s->received && s->sent - s->received > behind)
				behind = s->sent - s->received;
		}
		last = at;
		if ((total && done) || at >= end)
			break;
		if (next <= at)
			next = at + 1000;
		{
			struct itimerspec when = { .it_value = { next / 1000000000, next % 1000000000 } };
			timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, 0);
		}
		found = epoll_wait(epoll, events, 256, -1);
		for (i = 0; i < found; i++) {
			uint64_t which = events[i].data.u64;
			struct session *s = sessions + which / 2;
			uint64_t ticks;
			if (which == UINT64_MAX) {
				if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
					die("read");
			} else if (which % 2 == 0) {
				if (drop(s))
					goto over;
			} else {
				if (events[i].events & EPOLLIN)
					answer(s);
				if (events[i].events & EPOLLOUT)
					push(s);
				else if (events[i].events & (EPOLLHUP | EPOLLERR))
					goto over;
			}
		}
	}
over:
	qsort(trips, trip_count, sizeof *trips, smaller);
	printf("%.6f %llu %llu %llu %u %.1f %.1f\n", (now() - begin) / 1e9, (unsigned long long)sent,
	       (unsigned long long)received, (unsigned long long)behind, trip_count,
	       trip_count ? trips[trip_count / 2] / 1e3 : 0.0, trip_count ? trips[trip_count * 99ull / 100] / 1e3 : 0.0);
	return 0;
}
