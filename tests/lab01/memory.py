"""Storage in memory, for a receiver without a disk."""


class Uploads(dict):
    """Storage in memory: what has been saved, by name; `open` are the unfinished ones."""

    def __init__(self):
        self.open = []
        self.full = False  # write() raises OSError
        self.fills_up = False  # save() raises OSError

    def create(self, filename, total_size):
        upload = MemoryUpload(self, filename)
        self.open.append(upload)
        return upload


class MemoryUpload:
    def __init__(self, uploads, filename):
        self.uploads, self.filename, self.data = uploads, filename, b""

    def write(self, data):
        if self.uploads.full:
            raise OSError(28, "No space left on device")
        self.data += data

    def save(self):
        if self.uploads.fills_up:
            raise OSError(28, "No space left on device")
        self.uploads[self.filename] = self.data
        self.uploads.open.remove(self)

    def discard(self):
        self.uploads.open.remove(self)


def unfinished(receiver):
    return [address for address, s in receiver.sessions.items() if not s.finished]
