/* Threads that share a kernel's rows.

   A command is WORDS longs: the kernel's address, the number of rows, then its arguments, longs and
   addresses; the kernel itself gets the first row and the end of those that are to be done.  Every
   thread does its rows of all commands that are given at a time: the same rows of each, and none
   waits for another in between.  One that has nothing to do looks for work while it offers its
   processor to whoever wants it, then sleeps: the gaps of a step cost nobody a wake-up, and two
   programs on one machine do not spin for each other. */

#include "common.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define WORDS 18
#define MOST 64         /* threads */
#define GLANCES 64      /* … between two offers of the processor */
#define PATIENCE 4096   /* offers before a thread sleeps, some milliseconds */

typedef void kernel(long, long, long, long, long, long, long, long, long, long, long, long, long,
                    long, long, long, long, long);

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER, bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_long ticket, sleepers, pending;
static long workers, hired_at[MOST];
static struct { const long *commands; long count, threads; } job;

EXPORT long words(void) { return WORDS; }

static inline void glance(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/* One thread's share of every command's rows. */
static void share(const long *commands, long count, long thread, long threads) {
  for (const long *w = commands; w < commands + count * WORDS; w += WORDS) {
    long first = w[1] * thread / threads, end = w[1] * (thread + 1) / threads;
    if (first < end)
      ((kernel *)w[0])(first, end, w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11],
                       w[12], w[13], w[14], w[15], w[16], w[17]);
  }
}

static void *work(void *number) {
  for (long seen = hired_at[(long)number], spun = 0;; spun++) {
    long now = atomic_load(&ticket);
    if (now != seen) {
      seen = now, spun = 0;
      if ((long)number < job.threads) share(job.commands, job.count, (long)number, job.threads);
      atomic_fetch_sub(&pending, 1);
    } else if (spun < GLANCES * PATIENCE) {
      if (spun % GLANCES) glance();
      else sched_yield();
    } else {
      pthread_mutex_lock(&bed);
      atomic_fetch_add(&sleepers, 1);
      while (atomic_load(&ticket) == seen) pthread_cond_wait(&wake, &bed);
      atomic_fetch_sub(&sleepers, 1);
      pthread_mutex_unlock(&bed);
    }
  }
  return NULL;
}

/* A forked process has none of its parent's threads: it begins with a team of its own. */
static void forked(void) {
  workers = 0;
  atomic_store(&sleepers, 0);
  pthread_mutex_init(&turn, NULL), pthread_mutex_init(&bed, NULL), pthread_cond_init(&wake, NULL);
}

/* Hire workers up to `threads` in all; return how many there are. */
static long hired(long threads) {
  static int watched;
  if (!watched++) pthread_atfork(NULL, NULL, forked);
  while (workers + 1 < min_(threads, MOST)) {
    pthread_t thread;
    hired_at[workers + 1] = atomic_load(&ticket);
    if (pthread_create(&thread, NULL, work, (void *)(workers + 1))) break;
    pthread_detach(thread);
    workers++;
  }
  return min_(threads, workers + 1);
}

/* Do commands with this many threads; alone, where the team is at work for another thread. */
EXPORT void team(long threads, const long *commands, long count) {
  if (threads < 2 || pthread_mutex_trylock(&turn)) {
    share(commands, count, 0, 1);
    return;
  }
  job.commands = commands, job.count = count, job.threads = hired(threads);
  atomic_store(&pending, workers);
  atomic_fetch_add(&ticket, 1);
  if (atomic_load(&sleepers)) {
    pthread_mutex_lock(&bed);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&bed);
  }
  share(commands, count, 0, job.threads);
  for (long spun = 1; atomic_load(&pending); spun++) {
    if (spun % GLANCES) glance();
    else sched_yield();
  }
  pthread_mutex_unlock(&turn);
}
