"""A disk that can be made to hang: a FUSE file system in memory, whose server is a process
that answers nothing for a while. Who asks it for anything meanwhile waits, until it goes on
or is killed. Used by the script `hangs`; linux/fuse.h has the numbers and layouts.
"""

import errno
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import time

ATTRIBUTES = struct.Struct("<6Q10I")
REQUEST = struct.Struct("<IIQQIIII")
ANSWER = struct.Struct("<IiQ")

(LOOKUP, FORGET, GETATTR, SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME) = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12)
(OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, INIT) = (14, 15, 16, 17, 18, 20, 26)
(OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT) = (27, 28, 29, 30, 34, 35, 36)
(DESTROY, BATCH_FORGET, RENAME2) = (38, 42, 45)


class Node:
    def __init__(self, number, mode):
        self.number, self.mode, self.data, self.names = number, mode, bytearray(), {}

    def attributes(self):
        now = int(time.time())
        size = len(self.data)
        return ATTRIBUTES.pack(self.number, size, (size + 511) // 512, now, now, now, 0, 0, 0,
                               self.mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


class Server:
    """Answers the requests of one mount."""

    def __init__(self, device, control):
        self.device, self.control, self.next = device, control, 2
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o700)}

    def make(self, parent, name, mode):
        node = Node(self.next, mode)
        self.next += 1
        self.nodes[node.number] = parent.names[name] = node
        return node

    @staticmethod
    def entry(node):
        # Nothing is cached: every look asks the server.
        return struct.pack("<4Q2I", node.number, 0, 0, 0, 0, 0) + node.attributes()

    def answer(self, operation, node, body):
        """What is answered: bytes, or the number of an error."""
        name = lambda skip: bytes(body[skip:]).split(b"\0")[0]
        if operation == INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 131072, 0, 12, 10, 131072, 1, 0, 0, *[0] * 8)
        if operation == LOOKUP:
            found = node.names.get(name(0))
            return self.entry(found) if found else errno.ENOENT
        if operation == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + node.attributes()
        if operation == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            if valid & 1:
                node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(struct.unpack_from("<I", body, 68)[0])
            if valid & 8:
                del node.data[size:]
                node.data.extend(bytes(size - len(node.data)))
            return struct.pack("<QII", 0, 0, 0) + node.attributes()
        if operation in (MKNOD, MKDIR):
            mode = struct.unpack_from("<I", body)[0]
            mode, skip = (mode, 16) if operation == MKNOD else (stat.S_IFDIR | mode, 8)
            return self.entry(self.make(node, name(skip), mode))
        if operation in (UNLINK, RMDIR):
            return b"" if node.names.pop(name(0), None) else errno.ENOENT
        if operation in (RENAME, RENAME2):
            old, new = bytes(body[8 if operation == RENAME else 16:]).split(b"\0")[:2]
            target = self.nodes[struct.unpack_from("<Q", body)[0]]
            if old not in node.names:
                return errno.ENOENT
            target.names[new] = node.names.pop(old)
            return b""
        if operation == CREATE:
            made = self.make(node, name(16), struct.unpack_from("<II", body)[1])
            return self.entry(made) + struct.pack("<QII", 0, 0, 0)
        if operation in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(node.data[offset:offset + size])
        if operation == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            node.data.extend(bytes(max(0, offset - len(node.data))))
            node.data[offset:offset + size] = body[40:40 + size]
            return struct.pack("<II", size, 0)
        if operation == READDIR:
            return self.listing(node, *struct.unpack_from("<QI", body, 8))
        if operation == STATFS:
            return struct.pack("<5Q4I6I", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096, 0, *[0] * 6)
        if operation in (RELEASE, RELEASEDIR, FSYNC, FSYNCDIR, ACCESS, DESTROY):
            return b""
        # So the kernel does not ask again. FLUSH is among them: a killed process would wait
        # for its answer.
        return errno.ENOSYS

    @staticmethod
    def listing(node, offset, size):
        text = b""
        for number, (name, held) in enumerate(node.names.items(), 1):
            piece = struct.pack("<QQII", held.number, number, len(name), stat.S_IFMT(held.mode) >> 12) + name
            piece += bytes(-len(piece) % 8)
            if number <= offset:
                continue
            if len(text) + len(piece) > size:
                break
            text += piece
        return text

    def run(self):
        while True:
            if self.control in select.select([self.device, self.control], [], [])[0]:
                # Between two requests: a process cannot be killed while it waits for the
                # answer to one that was read.
                os.write(self.control, os.read(self.control, 1))
                if not os.read(self.control, 1):
                    return
                continue
            try:
                request = memoryview(os.read(self.device, 1 << 18))
            except OSError as error:
                # Unmounted; or the request was withdrawn before it was read.
                if error.errno == errno.ENODEV:
                    return
                continue
            _, operation, unique, number, *_ = REQUEST.unpack_from(request)
            if operation in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            answer = self.answer(operation, self.nodes[number] if number else None, request[REQUEST.size:])
            fault, body = (answer, b"") if isinstance(answer, int) else (0, answer)
            try:
                os.write(self.device, ANSWER.pack(ANSWER.size + len(body), -fault, unique) + body)
            except OSError:
                # Who asked was killed.
                pass


class SlowDisk:
    """A mounted disk. Needs a mount namespace of its own, and root in it."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "none", path], pass_fds=[device], check=True)
        self.control, control = socket.socketpair()
        self.server = os.fork()
        if self.server == 0:
            self.control.close()
            try:
                Server(device, control.fileno()).run()
            finally:
                os._exit(0)
        os.close(device)
        control.close()
        # The kernel learns that there is nothing to flush: see Server.answer.
        first = os.path.join(path, "first")
        os.close(os.open(first, os.O_CREAT | os.O_WRONLY))
        os.unlink(first)

    def hang(self):
        """Returns when the disk hangs."""
        self.control.sendall(b"h")
        self.control.recv(1)

    def go_on(self):
        self.control.sendall(b"g")

    def close(self):
        """Ends the server: whoever waits for it gets an error."""
        os.kill(self.server, signal.SIGKILL)
        os.waitpid(self.server, 0)
        subprocess.run(["umount", "-l", self.path], check=False)
