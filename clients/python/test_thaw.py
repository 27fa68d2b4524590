"""python3 -m unittest: from this folder."""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import unittest

import thaw


class FakeRestore:
    """Writes the file as the shim does: all of it at once, under another inode."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "restore.json")

    def write(self, id: str = "1", **changes: object) -> None:
        told = {
            "version": 1,
            "id": id,
            "restoredAt": "2026-01-02T03:04:05.678Z",
            "pod": {"name": "web-2", "namespace": "models", "uid": "u"},
            "container": {"name": "server", "id": "c"},
            "hostname": "web-2",
            "addresses": ["10.88.0.7"],
            "env": {"PATH": os.environ["PATH"], "COLOUR": "green"},
            "seed": "ab" * 32,
            "checkpoint": {"image": "registry.example/web:1"},
            **changes,
        }
        with open(self.path + ".new", "w") as file:
            json.dump(told, file)
        os.replace(self.path + ".new", self.path)


class ThawTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.fake = FakeRestore(folder.name)

    def test_tells_each_restore_once(self) -> None:
        watch = thaw.Watch(path=self.fake.path)
        self.assertIsNone(watch.restored())
        self.fake.write("1")
        restore = watch.restored()
        self.assertEqual((restore.id, restore.pod_name, restore.addresses), ("1", "web-2", ["10.88.0.7"]))
        self.assertEqual(restore.checkpoint, {"image": "registry.example/web:1"})
        self.assertIsNone(watch.restored())
        # Taken away and written again while the container was saved.
        os.remove(self.fake.path)
        self.assertIsNone(watch.restored())
        self.fake.write("1")
        self.assertIsNone(watch.restored())
        self.fake.write("2")
        self.assertEqual(watch.restored().id, "2")

    def test_says_nothing_of_what_was_there_before(self) -> None:
        self.fake.write("1")
        watch = thaw.Watch(path=self.fake.path)
        self.assertIsNone(watch.restored())
        self.fake.write("2")
        self.assertEqual(watch.restored().id, "2")

    def test_a_file_of_somebody_else_is_no_restore(self) -> None:
        watch = thaw.Watch(path=self.fake.path)
        for text in ("", "[]", "{}", "no JSON"):
            with open(self.fake.path, "w") as file:
                file.write(text)
            self.assertIsNone(watch.restored(), text)

    def test_one_of_many_threads_learns_of_it(self) -> None:
        watch = thaw.Watch(path=self.fake.path)
        self.fake.write("1")
        found = []
        threads = [threading.Thread(target=lambda: found.append(watch.restored())) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(restore is not None for restore in found), 1)

    def test_others_wait_for_the_callback(self) -> None:
        name = "old"
        entered, leave = threading.Event(), threading.Event()

        def callback(restore: thaw.Restore) -> None:
            nonlocal name
            entered.set()
            leave.wait(10)
            name = restore.pod_name

        watch = thaw.Watch(callback, self.fake.path)
        self.fake.write("1")
        seen = []

        def handle() -> None:
            watch.restored()
            seen.append(name)

        threads = [threading.Thread(target=handle) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.assertTrue(entered.wait(10))
        leave.set()
        for thread in threads:
            thread.join()
        self.assertEqual(seen, ["web-2"] * 4)

    def test_a_callback_that_fails_is_called_again(self) -> None:
        calls = []

        def callback(restore: thaw.Restore) -> None:
            calls.append(restore.id)
            if len(calls) == 1:
                raise RuntimeError("not yet")

        watch = thaw.Watch(callback, self.fake.path)
        self.fake.write("1")
        with self.assertRaises(RuntimeError):
            watch.restored()
        self.assertEqual(watch.restored().id, "1")
        self.assertIsNone(watch.restored())
        self.assertEqual(calls, ["1", "1"])

    def test_apply_takes_over_environment_and_seeds(self) -> None:
        watch = thaw.Watch(path=self.fake.path)
        self.fake.write("1")
        restore = watch.restored()
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ["STALE"] = "1"
        random.seed(1)
        stale = random.getrandbits(64)
        random.seed(1)
        restore.apply()
        self.assertEqual(os.environ.get("COLOUR"), "green")
        self.assertNotIn("STALE", os.environ)
        self.assertNotEqual(random.getrandbits(64), stale)

    def test_seeds_differ_by_purpose_and_process(self) -> None:
        self.fake.write("1")
        restore = thaw.Watch(path=self.fake.path)._read()
        self.assertNotEqual(restore.seed_for("a"), restore.seed_for("b"))
        self.assertEqual(restore.seed_for("a"), restore.seed_for("a"))
        code = "import sys, thaw; print(thaw.Watch(path=sys.argv[1])._read().seed_for('a').hex())"
        other = subprocess.run(
            [sys.executable, "-c", code, self.fake.path],
            cwd=os.path.dirname(os.path.abspath(__file__)),
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertNotEqual(other.stdout.strip(), restore.seed_for("a").hex())

    def test_calls_back(self) -> None:
        called = threading.Event()
        ids = []

        def callback(restore: thaw.Restore) -> None:
            ids.append(restore.id)
            called.set()

        thaw.on_restore(callback, self.fake.path, interval=0.01)
        self.fake.write("1")
        self.assertTrue(called.wait(10))
        self.assertEqual(ids, ["1"])


if __name__ == "__main__":
    unittest.main()
