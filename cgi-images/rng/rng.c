/* /10 gives ten random bytes. What is no number, or too large a one, is a 400. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MOST = 1 << 20 };

static int refuse(void) {
    printf("Status: 400 Bad Request\nContent-Type: text/plain; charset=utf-8\n\n"
           "Ask for a number of bytes from 0 to %d, such as /10.\n", MOST);
    return 0;
}

int main(void) {
    const char *path = getenv("PATH_INFO");
    static unsigned char buffer[4096];

    if (!path || path[0] != '/' || !path[1] || strlen(path) > 8 || path[1 + strspn(path + 1, "0123456789")])
        return refuse();
    long wanted = strtol(path + 1, NULL, 10);
    if (wanted > MOST)
        return refuse();

    printf("Content-Type: application/octet-stream\nCache-Control: no-store\nContent-Length: %ld\n\n", wanted);
    while (wanted > 0) {
        ssize_t got = getrandom(buffer, wanted < (long)sizeof buffer ? (size_t)wanted : sizeof buffer, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            perror("getrandom");
            return 1;
        }
        if (fwrite(buffer, 1, (size_t)got, stdout) != (size_t)got)
            return 1; /* the client has left */
        wanted -= got;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
