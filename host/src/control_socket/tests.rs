//! The socket as its clients meet it, the well-behaved and the others.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::connection::Connection;
use super::frame::{MAX_FRAME, frame};
use super::message::{Reason, Refusal, encode};
use super::*;

/// No test has reason to wait for as long: then something hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Answers with no boards, and counts how often.
#[derive(Default)]
struct Counting(AtomicU64);

impl Answers for Counting {
    fn answer(&self, request: &Request) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Status => Answer::Status { boards: Vec::new() },
            Request::Stats { .. } => Answer::Stats { boards: Vec::new() },
            Request::Features { board } => {
                Answer::Refused(Refusal::no_such_board(board, ["b0", "b1"]))
            }
            Request::Reset { .. } => Answer::ResetAsked,
        }
    }
}

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vphys-cs-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// What lies in it.
    fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn serve(path: &Path) -> (ControlServer, Arc<Counting>) {
    let answers = Arc::new(Counting::default());
    let listener = ControlListener::bind(path, None).unwrap();
    let served = ControlServer::start(listener, Arc::<Counting>::clone(&answers)).unwrap();
    (served, answers)
}

/// Waits for something that another thread brings about.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < HANGS, "{what} does not come");
        std::thread::yield_now();
    }
}

fn raw(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream
}

/// The JSON of the next frame.
fn read_frame(stream: &mut UnixStream) -> io::Result<String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut content = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut content)?;
    Ok(String::from_utf8(content).unwrap())
}

#[test]
fn one_request_one_answer() {
    let folder = Folder::new();
    let (_served, _) = serve(&folder.socket());
    let ask = |request| ask(&folder.socket(), &request);
    assert_eq!(ask(Request::Status).unwrap(), Answer::Status { boards: Vec::new() });
    assert_eq!(ask(Request::Reset { board: "b0".into() }).unwrap(), Answer::ResetAsked);
    let error = ask(Request::Features { board: "b7".into() }).unwrap_err();
    assert!(error.is_refusal(Reason::NoSuchBoard));
    assert_eq!(error.to_string(), "there is no board b7: choose one of b0, b1");
    // The connection is over behind its answer.
    let mut stream = raw(&folder.socket());
    stream.write_all(&frame(&encode(&Request::Status)).unwrap()).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), r#"{"version":1,"answer":"status","boards":[]}"#);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_watch_goes_on_until_the_client_hangs_up() {
    let folder = Folder::new();
    let (_served, answers) = serve(&folder.socket());
    let watch = |ms| Request::Stats { watch_ms: Some(ms) };
    let mut asking = Asking::begin(&folder.socket(), &watch(100)).unwrap();
    for _ in 0..3 {
        assert_eq!(asking.answer().unwrap(), Answer::Stats { boards: Vec::new() });
    }
    drop(asking);
    assert!(answers.0.load(Ordering::Relaxed) >= 3);
    for ms in [0, 99, 3_600_001, u64::MAX] {
        let error = ask(&folder.socket(), &watch(ms)).unwrap_err();
        assert!(error.is_refusal(Reason::Malformed), "{error}");
        assert!(error.to_string().starts_with("watch every 100 to 3600000 ms"), "{error}");
    }
    // They leave room for questions.
    let watches: Vec<_> = (0..MAX_WATCHES)
        .map(|_| {
            let mut asking = Asking::begin(&folder.socket(), &watch(3_600_000)).unwrap();
            asking.answer().unwrap();
            asking
        })
        .collect();
    let error = ask(&folder.socket(), &watch(100)).unwrap_err();
    assert_eq!(error.to_string(), "the daemon serves as many watches as it can: try again later");
    assert!(ask(&folder.socket(), &Request::Status).is_ok());
    drop(watches);
    until("room for another watch", || ask(&folder.socket(), &watch(100)).is_ok());
}

#[test]
fn malformed_requests_are_told_so() {
    let folder = Folder::new();
    let (_served, answers) = serve(&folder.socket());
    for (bytes, text) in [
        (frame(b"hello").unwrap(), "the request cannot be read: expected value at line 1 column 1"),
        (frame(b"").unwrap(), "the request cannot be read: EOF"),
        (frame(br#"{"version":1,"request":"halt"}"#).unwrap(), "unknown variant `halt`"),
        (frame(br#"{"version":9}"#).unwrap(), "this request is of version 9: use the vphys that"),
        (vec![1, 0, 1, 0], "a frame of 65537 bytes: at most 65536 are allowed"),
        (vec![0xFF; 4], "a frame of 4294967295 bytes"),
    ] {
        let mut stream = raw(&folder.socket());
        stream.write_all(&bytes).unwrap();
        let answer = read_frame(&mut stream).unwrap();
        assert!(answer.contains("\"answer\":\"refused\"") && answer.contains(text), "{answer}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(answers.0.load(Ordering::Relaxed), 0);
    assert!(ask(&folder.socket(), &Request::Status).is_ok());
}

#[test]
fn ten_thousand_who_hang_up_at_once() {
    let folder = Folder::new();
    let (_served, _) = serve(&folder.socket());
    let start = frame(&encode(&Request::Status)).unwrap();
    for i in 0..10_000 {
        let mut stream = raw(&folder.socket());
        // Nothing, a part of a length, a part of a frame, or all of it.
        let part = [0, 2, 10, start.len()][i % 4];
        // It may have been told that there is no room, and be closed.
        let _ = stream.write_all(&start[..part]);
    }
    until("an answer", || ask(&folder.socket(), &Request::Status).is_ok());
}

#[test]
fn more_than_there_is_room_for() {
    let folder = Folder::new();
    let (_served, _) = serve(&folder.socket());
    // They say nothing, and stay: for some seconds only, so once more if the
    // first have gone before the last came.
    let (mut silent, mut refused) = (Vec::new(), None);
    until("no room", || {
        silent = (0..MAX_CONNECTIONS).map(|_| raw(&folder.socket())).collect();
        refused = ask(&folder.socket(), &Request::Status).err();
        refused.is_some()
    });
    let error = refused.unwrap();
    assert!(error.is_refusal(Reason::Busy), "{error}");
    assert_eq!(error.to_string(), "the daemon serves as many clients as it can: try again later");
    // One place is enough, and the others hold nobody up.
    silent.pop();
    until("the place", || ask(&folder.socket(), &Request::Status).is_ok());
    drop(silent);
}

/// File descriptors of this process that are sockets or pipes of `inode`.
fn open_here(inode: u64) -> usize {
    let is_it = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| fs::metadata(entry.path()).is_ok_and(|file| file.ino() == inode))
    };
    fs::read_dir("/proc/self/fd").unwrap().map(is_it).filter(|is| *is).count()
}

#[test]
fn files_that_come_along_are_closed() {
    let folder = Folder::new();
    let (_served, _) = serve(&folder.socket());
    let file = File::create(folder.0.join("stray")).unwrap();
    let inode = file.metadata().unwrap().ino();
    let request = frame(&encode(&Request::Stats { watch_ms: Some(3_600_000) })).unwrap();
    let mut watching = Vec::new();
    for _ in 0..4 {
        let mut stream = raw(&folder.socket());
        let fds = [file.as_raw_fd(); 8];
        let stray = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(&request)],
            &stray,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        assert!(read_frame(&mut stream).unwrap().contains("stats"));
        watching.push(stream);
    }
    // The answer is behind the reading; the sender's own is the one that is left.
    assert_eq!(open_here(inode), 1);
    drop(file);
    assert_eq!(open_here(inode), 0);
}

/// A stream that a test fills and empties.
#[derive(Default)]
struct Fake {
    arrived: Vec<u8>,
    room: usize,
    sent: Vec<u8>,
}

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.arrived.len());
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..most].copy_from_slice(&self.arrived[..most]);
        self.arrived.drain(..most);
        Ok(most)
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(self.room);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= most;
        self.sent.extend_from_slice(&bytes[..most]);
        Ok(most)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fake {
    fn with(arrived: &[u8], room: usize) -> Self {
        Self { arrived: arrived.to_vec(), room, sent: Vec::new() }
    }
}

#[test]
fn a_byte_a_second_is_too_slow() {
    let answers = Counting::default();
    let request = frame(&encode(&Request::Status)).unwrap();
    let mut now = 1_000;
    let mut connection = Connection::new(Fake::with(&[], usize::MAX), now);
    for byte in request {
        assert_eq!(connection.is_over(), now >= 1_000 + FRAME_TIME, "{now}");
        if connection.is_over() {
            break;
        }
        *connection.stream_mut() = Fake::with(&[byte], usize::MAX);
        connection.ready(now, &answers);
        now += 1_000;
        connection.time(now, &answers);
    }
    assert!(connection.is_over() && answers.0.load(Ordering::Relaxed) == 0);
}

#[test]
fn who_does_not_take_the_answer_is_let_go() {
    let answers = Counting::default();
    let request = frame(&encode(&Request::Status)).unwrap();
    let mut connection = Connection::new(Fake::with(&request, 3), 0);
    connection.ready(1_000, &answers);
    assert_eq!((connection.stream().sent.len(), connection.due()), (3, 1_000 + FRAME_TIME));
    connection.time(999 + FRAME_TIME, &answers);
    assert!(!connection.is_over());
    connection.time(1_000 + FRAME_TIME, &answers);
    assert!(connection.is_over());
    // A watch has its time for each answer anew.
    let request = frame(&encode(&Request::Stats { watch_ms: Some(500) })).unwrap();
    let mut connection = Connection::new(Fake::with(&request, 200), 0);
    connection.ready(0, &answers);
    assert_eq!(connection.due(), 500);
    connection.stream_mut().room = 0;
    connection.time(500, &answers);
    assert_eq!((connection.is_over(), connection.due()), (false, 500 + FRAME_TIME));
    connection.stream_mut().room = 200;
    connection.ready(600, &answers);
    assert_eq!((connection.is_over(), connection.due()), (false, 1_100));
}

/// Answers with more than a frame holds.
struct Endless;

impl Answers for Endless {
    fn answer(&self, _: &Request) -> Answer {
        Answer::Refused(Refusal::new(Reason::Malformed, "x".repeat(MAX_FRAME)))
    }
}

#[test]
fn an_answer_that_fits_no_frame_is_told_so() {
    let request = frame(&encode(&Request::Status)).unwrap();
    let mut connection = Connection::new(Fake::with(&request, usize::MAX), 0);
    connection.ready(0, &Endless);
    let sent = &connection.stream().sent;
    let text = "the answer is longer than 65536 bytes (a bug of the daemon's): ask for less, such \
                as one board's features";
    let refusal = Answer::Refused(Refusal::new(Reason::TooLong, text));
    assert_eq!(*sent, frame(&encode(&refusal)).unwrap());
}

#[test]
fn who_does_not_answer_is_told_of() {
    assert_eq!(ClientError::Silent.to_string(), "the daemon has not answered for 5 s: see its log");
    // One that takes the request, and then says nothing.
    let folder = Folder::new();
    let listener = std::os::unix::net::UnixListener::bind(folder.socket()).unwrap();
    let error = ask(&folder.socket(), &Request::Status).unwrap_err();
    assert!(matches!(error, ClientError::Silent), "{error}");
    drop(listener);
}

#[test]
fn the_file_has_its_mode_and_goes() {
    let folder = Folder::new();
    let socket = folder.socket();
    let listener = ControlListener::bind(&socket, None).unwrap();
    let file = fs::symlink_metadata(&socket).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o660);
    assert_eq!(folder.files(), 1, "no draft is left");
    drop(listener);
    assert_eq!(folder.files(), 0);
    // The folder is made, if it is only that.
    let below = folder.0.join("run/control.sock");
    drop(ControlListener::bind(&below, None).unwrap());
    let error = ControlListener::bind(&folder.0.join("a/b/c.sock"), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no folder {} for the control socket: No such file or directory (os error 2). Make it \
             (systemd: RuntimeDirectory=virtio-phys), or choose another path (daemon.socket)",
            folder.0.join("a/b").display()
        )
    );
    let error = ControlListener::bind(&socket, Some("no-such-group")).unwrap_err();
    assert!(error.is_configuration());
    assert_eq!(
        error.to_string(),
        "there is no group no-such-group on this system: make it (`groupadd no-such-group`), or \
         change daemon.socket_group"
    );
}

#[test]
fn a_living_daemons_socket_is_left_alone() {
    let folder = Folder::new();
    let socket = folder.socket();
    let (served, _) = serve(&socket);
    let before = fs::symlink_metadata(&socket).unwrap().ino();
    let error = ControlListener::bind(&socket, None).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }));
    assert!(error.to_string().contains("a daemon answers on ") && !error.is_permission());
    assert_eq!(fs::symlink_metadata(&socket).unwrap().ino(), before);
    assert!(ask(&socket, &Request::Status).is_ok());
    // One that was killed leaves its file behind, and another takes its place.
    let listener = ControlListener::bind(&folder.0.join("other.sock"), None).unwrap();
    fs::rename(folder.0.join("other.sock"), folder.0.join("dead.sock")).unwrap();
    drop(listener);
    let (other, _) = serve(&folder.0.join("dead.sock"));
    assert!(ask(&folder.0.join("dead.sock"), &Request::Status).is_ok());
    drop(other);
    // Somebody's file is no socket of ours to replace.
    fs::write(folder.0.join("file"), "precious").unwrap();
    let error = ControlListener::bind(&folder.0.join("file"), None).unwrap_err();
    assert!(error.to_string().contains("is there and is no socket: choose another path"));
    assert_eq!(fs::read_to_string(folder.0.join("file")).unwrap(), "precious");
    // Another daemon's file is not ours to remove at the end.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "of another").unwrap();
    drop(served);
    assert!(socket.exists());
}

#[test]
fn of_many_who_start_at_once_one_has_the_socket() {
    let folder = Folder::new();
    let socket = folder.socket();
    // A dead one's file, for more to go wrong.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let bound: Vec<_> = std::thread::scope(|scope| {
        let bind = || scope.spawn(|| ControlListener::bind(&socket, None));
        let threads: Vec<_> = (0..8).map(|_| bind()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
    let in_use = |bound: &Result<_, ListenError>| matches!(bound, Err(ListenError::InUse { .. }));
    assert_eq!(bound.iter().filter(|bound| in_use(bound)).count(), 7, "{bound:?}");
    assert_eq!(folder.files(), 1);
}

#[test]
fn no_daemon_and_another_one() {
    let folder = Folder::new();
    let socket = folder.socket();
    let text = |request: &Request| ask(&socket, request).unwrap_err().to_string();
    let missing = text(&Request::Status);
    assert!(missing.starts_with(&format!("no daemon answers on {}", socket.display())));
    assert!(missing.contains("No such file") && missing.contains("Start virtio-physd, or name"));
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answer = |bytes: Vec<u8>| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                read_frame(&mut stream).unwrap();
                // The client may have gone when it read the beginning.
                let _ = stream.write_all(&bytes);
            });
            text(&Request::Status)
        })
    };
    assert_eq!(
        answer(frame(br#"{"version":2,"answer":"all-new"}"#).unwrap()),
        "the daemon speaks version 2 of the control protocol, this program version 1: use the \
         vphys that came with the daemon"
    );
    assert!(answer(frame(b"220 mail").unwrap()).contains("Is it virtio-physd?"));
    assert!(answer(vec![0xFF; 4]).contains("a frame of 4294967295 bytes"));
    assert!(answer(vec![9, 0]).starts_with("the daemon hung up"));
    drop(listener);
    assert!(text(&Request::Status).contains("Connection refused"));
}
