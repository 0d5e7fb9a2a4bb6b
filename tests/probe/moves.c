/* What a daemon that was taken over would try: one line for each move, with its errno. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void said(const char *what, long result) {
  printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "WORKS");
}

static long reach(int type, const char *where, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, where, &to.sin_addr);
  int s = socket(AF_INET, type, 0);
  if (s < 0) return -1;
  struct timeval wait = {.tv_sec = 1};
  setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  long r = connect(s, (struct sockaddr *)&to, sizeof to);
  char byte = 'x';
  if (r == 0 && type == SOCK_DGRAM) {
    send(s, &byte, 1, 0);
    r = recv(s, &byte, 1, 0);
  }
  close(s);
  return r;
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  said("connect", reach(SOCK_STREAM, "198.51.100.2", 443));
  said("datagram", reach(SOCK_DGRAM, "198.51.100.2", 443));
  said("metadata", reach(SOCK_DGRAM, "169.254.169.254", 80));
  said("write", open("/etc/planted", O_WRONLY | O_CREAT, 0644));
  said("usr", open("/usr/planted", O_WRONLY | O_CREAT, 0644));
  char *argv[] = {"sh", "-c", "echo SHELL", NULL};
  execve("/bin/sh", argv, NULL);
  said("shell", -1);
  said("userns", unshare(CLONE_NEWUSER));
  said("clone-userns", syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
  said("setns", setns(0, 0));
  said("mount", mount("none", "/mnt", "tmpfs", 0, NULL));
  said("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
  int families[] = {AF_PACKET, 38 /* AF_ALG */, 40 /* AF_VSOCK */, 44 /* AF_XDP */, AF_NETLINK, AF_BLUETOOTH};
  for (unsigned i = 0; i < sizeof families / sizeof *families; i++) {
    char what[32];
    snprintf(what, sizeof what, "family-%d", families[i]);
    /* Of netlink another protocol than the one for addresses: 12 is the packet filter. */
    said(what, socket(families[i], families[i] == AF_NETLINK ? SOCK_RAW : SOCK_DGRAM, families[i] == AF_NETLINK ? 12 : 0));
  }
  return 0;
}
