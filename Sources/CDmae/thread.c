// The library's thread: calls are done on it one after another, in the order in which they came.
#define _GNU_SOURCE
#include "dmae_work.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>

struct call {
    void (*work)(void *context);
    void *context;
    bool is_done;
    pthread_cond_t done;
    struct call *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static struct call *first, **end = &first;
static bool is_running;

static void *serve(void *nothing) {
    // A new thread has the rounding of the one that starts it, which may also flush denormal numbers to zero. OpenMP's
    // threads have the modes of this one.
    fesetenv(FE_DFL_ENV);
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (first == NULL) pthread_cond_wait(&arrived, &mutex);
        struct call *const call = first;
        first = call->next;
        if (first == NULL) end = &first;
        pthread_mutex_unlock(&mutex);
        call->work(call->context);
        pthread_mutex_lock(&mutex);
        call->is_done = true;
        pthread_cond_signal(&call->done);
    }
    return nothing;
}

// In the child of a fork there is no thread but the one that forked, and so no call that waits.
static void before_fork(void) { pthread_mutex_lock(&mutex); }
static void in_parent(void) { pthread_mutex_unlock(&mutex); }
static void in_child(void) {
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&arrived, NULL);
    first = NULL;
    end = &first;
    is_running = false;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void follow_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

/// Starts the thread, with an ample stack and every signal blocked: the caller's handlers run on the caller's threads.
static int start(void) {
    pthread_attr_t attributes;
    int number = pthread_attr_init(&attributes);
    if (number != 0) return number;
    pthread_attr_setstacksize(&attributes, (size_t)8 << 20);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    number = pthread_create(&thread, &attributes, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (number == 0) {
        pthread_setname_np(thread, "dmae");
        is_running = true;
    }
    return number;
}

int dmae_run(void (*work)(void *context), void *context) {
    pthread_once(&once, follow_forks);
    // The call is on this stack: the thread must not end while it waits.
    int cancelling;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelling);
    struct call call = {.work = work, .context = context, .done = PTHREAD_COND_INITIALIZER};
    pthread_mutex_lock(&mutex);
    const int number = is_running ? 0 : start();
    if (number == 0) {
        *end = &call;
        end = &call.next;
        pthread_cond_signal(&arrived);
        while (!call.is_done) pthread_cond_wait(&call.done, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&call.done);
    pthread_setcancelstate(cancelling, NULL);
    return number;
}
