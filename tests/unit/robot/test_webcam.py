from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from tests.backends.camera import CameraTests
from visarl.data.bag_writer import BagWriter
from visarl.data.bags import IMAGE
from visarl.data.messages import typestore
from visarl.errors import CameraError
from visarl.robot.webcam import DeviceCamera, open_camera


def picture(index, width=640, height=480):
    """Frame number `index`: blue rises to the right, green is the number; (H, W, 3) RGB."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 1] = 10 * (index % 25)
    return image


def write_folder(folder, count=12, **size):
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:04d}.png"), picture(index, **size)[..., ::-1])
    return folder


def write_video(path, count=12, width=640, height=480):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (width, height))
    assert writer.isOpened()
    for index in range(count):
        writer.write(picture(index, width, height)[..., ::-1])
    writer.release()
    return path


def write_bag(path, count=12):
    store, begin = typestore(), time.time_ns()
    writer = BagWriter(path)
    for index in range(count):
        stamp = begin + index * 33_000_000
        _, data = cv2.imencode(".png", picture(index)[..., ::-1])
        time_type, header = store.types["builtin_interfaces/msg/Time"], store.types["std_msgs/msg/Header"]
        kind = "sensor_msgs/msg/CompressedImage"
        head = header(stamp=time_type(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="camera")
        message = store.types[kind](header=head, format="png", data=data.ravel())
        writer.write(IMAGE, kind, bytes(store.serialize_cdr(message, kind)), stamp)
    return writer.close()


@pytest.fixture
def open_():
    cameras = []

    def opened(*arguments, **options):
        cameras.append(open_camera(*arguments, **options))
        return cameras[-1]

    yield opened
    for camera in cameras:
        camera.close()


class TestFolder(CameraTests):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.path = write_folder(tmp_path / "frames")

    def make(self):
        return open_camera(str(self.path)), lambda: None


class TestVideo(CameraTests):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = write_video(tmp_path / "run.avi")

    def make(self):
        return open_camera(str(self.path)), lambda: None


class TestBag(CameraTests):
    @pytest.fixture(autouse=True)
    def _bag(self, tmp_path):
        self.path = write_bag(tmp_path / "episode")

    def make(self):
        return open_camera(str(self.path)), lambda: None


class EndlessCapture:
    """OpenCV's capture of a file, played round and round at 100 Hz as a device would: no test machine has a webcam."""

    reads = 0

    def __init__(self, path):
        self.capture = cv2.VideoCapture(str(path))
        self.release = self.capture.release

    def read(self):
        self.reads += 1
        threading.Event().wait(0.01)
        there, image = self.capture.read()
        if not there:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            there, image = self.capture.read()
        return there, image


class TestDevice(CameraTests):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = write_video(tmp_path / "device.avi")

    def make(self):
        return DeviceCamera("/dev/video7", 640, 480, 30.0, EndlessCapture(self.path)), lambda: None

    def test_a_slow_reader_gets_the_newest_frame(self):
        capture = EndlessCapture(self.path)
        camera = DeviceCamera("/dev/video7", 640, 480, 30.0, capture)
        first, begun = camera.read(20.0), capture.reads
        limit = time.monotonic() + 60
        while capture.reads < begun + 22:
            assert time.monotonic() < limit, "the device's thread stands still"
            threading.Event().wait(0.01)
        frame = camera.read(20.0)
        # 20 frames have come since, 10 ms apart at least: one of a queue would be the first one's neighbour.
        assert frame.stamp_ns - first.stamp_ns > 0.15e9
        camera.close()


def test_a_folder_plays_in_order_at_its_pace_and_ends(tmp_path, open_):
    camera = open_(str(write_folder(tmp_path / "frames", count=5)), rate_hz=50)
    begin = time.monotonic()
    frames = [camera.read(2.0) for _ in range(5)]
    # One period less than between five frames: a reader that is late makes up for one.
    assert time.monotonic() - begin >= 3 / 50 - 0.005
    for index, frame in enumerate(frames):
        assert (frame.image == picture(index)).all()
    assert camera.read(2.0) is None and camera.read(2.0) is None


def test_a_loop_begins_again(tmp_path, open_):
    camera = open_(str(write_folder(tmp_path / "frames", count=2)), rate_hz=200, loop=True)
    greens = [int(camera.read(2.0).image[0, 0, 1]) for _ in range(5)]
    assert greens == [0, 10, 0, 10, 0]


def test_a_video_is_rgb(tmp_path, open_):
    frame = open_(str(write_video(tmp_path / "run.avi"))).read(2.0)
    assert frame.image[100, 600, 2] > 200 and frame.image[100, 600, 0] < 40


def test_a_frame_of_another_size_is_an_error_that_says_both(tmp_path, open_):
    camera = open_(str(write_folder(tmp_path / "frames", width=320, height=240)))
    with pytest.raises(CameraError, match="expected frames of 640x480, found 320x240"):
        camera.read(2.0)


def test_a_read_is_bounded(tmp_path, open_):
    camera = open_(str(write_folder(tmp_path / "frames")), rate_hz=0.01)
    camera.read(2.0)
    begin = time.monotonic()
    with pytest.raises(CameraError, match="no frame within 0.05 s"):
        camera.read(0.05)
    assert time.monotonic() - begin < 30.0


def test_closing_frees_a_waiting_reader(tmp_path, open_):
    camera = open_(str(write_folder(tmp_path / "frames")), rate_hz=0.01)
    camera.read(2.0)
    threading.Timer(0.1, camera.close).start()
    begin = time.monotonic()
    with pytest.raises(CameraError):
        camera.read(60.0)
    assert time.monotonic() - begin < 30.0


def test_a_missing_device_names_those_that_are_there():
    for source in ("/dev/video99", "99"):
        with pytest.raises(CameraError, match="/dev/video99: no such device.*devices here"):
            open_camera(source)


def test_what_is_no_camera_says_so():
    with pytest.raises(CameraError, match="/dev/null"):
        open_camera("/dev/null")


def test_an_unplugged_device_ends_in_a_sentence(tmp_path):
    # A capture that has no more frames answers like one whose device was pulled out.
    capture = cv2.VideoCapture(str(write_video(tmp_path / "short.avi", count=3)))
    camera = DeviceCamera("/dev/video7", 640, 480, 30.0, capture)
    with pytest.raises(CameraError, match="still plugged in"):
        for _ in range(5):
            camera.read(5.0)
    with pytest.raises(CameraError, match="still plugged in"):
        camera.read(5.0)
    camera.close()


def test_a_device_of_another_size_is_refused(tmp_path):
    capture = cv2.VideoCapture(str(write_video(tmp_path / "small.avi", width=320, height=240)))
    camera = DeviceCamera("/dev/video7", 640, 480, 30.0, capture)
    with pytest.raises(CameraError, match="found 320x240"):
        camera.read(5.0)
    camera.close()


def test_sources_that_hold_no_pictures(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metadata.yaml").write_text("something: else")
    for source, words in {
        "nowhere.mp4": "no such file or device",
        "empty": "without pictures",
        "notes.txt": "neither a video",
        "broken.mp4": "no video",
        "bad": "a.png is no picture",
        "foreign": "cannot be read as a rosbag2",
    }.items():
        with pytest.raises(CameraError, match=words):
            open_camera(str(tmp_path / source))
    with pytest.raises(CameraError, match="rate"):
        open_camera("0", rate_hz=0)
