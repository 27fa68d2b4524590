// CRIU's side of lazy-pages.socket (uffd.c, the same from 3.17 to 4.2), and both sides of handing a descriptor over.
// Whatever fails ends the program.
#pragma once

#include <stdint.h>

#include "../../fd.h"

namespace thaw {

// Sent instead of a pid when all tasks are there.
constexpr uint32_t kFinished = 0x52535446;

// A userfaultfd of this process that reports fork, mremap, munmap and madvise, as CRIU opens it.
UniqueFd OpenUserfault();
// 0, or the errno for which this machine gives no such userfaultfd.
int ProbeUserfault();
void RegisterMissing(int uffd, uint64_t address, uint64_t bytes);

UniqueFd Connect(const char* path);
UniqueFd Listen(const char* path);

// One byte with the descriptor.
void SendDescriptor(int socket, int fd);
// Waits; an invalid one if the other side is gone.
UniqueFd ReceiveDescriptor(int socket);

void SendTask(int connection, uint32_t pid, int uffd);
void SendZombie(int connection, uint32_t pid);
void SendFinished(int connection);

}  // namespace thaw
