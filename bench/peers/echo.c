/* Sends the body of a request back: piece by piece, or, with LATE, once it has all of it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void send(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(1, bytes, length);
        if (written <= 0)
            _exit(1);
        bytes += written;
        length -= written;
    }
}

int main(void)
{
    static const char head[] = "Content-Type: application/octet-stream\n\n";
    const char *declared = getenv("CONTENT_LENGTH");
    size_t left = declared ? strtoul(declared, NULL, 10) : 0, have = 0;
#ifdef LATE
    size_t size = left;
#else
    size_t size = 64 << 10;
    send(head, sizeof head - 1);
#endif
    char *piece = malloc(size ? size : 1);
    while (left > 0) {
        size_t most = size - have < left ? size - have : left;
        ssize_t got = read(0, piece + have, most);
        if (got <= 0)
            return 1;
        left -= got;
#ifdef LATE
        have += got;
#else
        send(piece, got);
#endif
    }
#ifdef LATE
    send(head, sizeof head - 1);
    send(piece, have);
#endif
    return 0;
}
