//! A line between device and server that can be cut, at a byte, and led elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

#[derive(Debug)]
struct Course {
    /// The server's port; none: nobody answers.
    port: Option<u16>,
    /// Cut the line after so many more bytes of this way, once.
    cut: Option<(Way, usize)>,
    /// Bytes that have passed.
    passed: [usize; 2],
}

/// A proxy on a port of its own, which serves until the test's process ends.
pub struct Proxy {
    pub port: u16,
    course: Arc<Mutex<Course>>,
}

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let course = Arc::new(Mutex::new(Course { port: Some(port), cut: None, passed: [0; 2] }));
        let proxy = Self { port: listener.local_addr().unwrap().port(), course: course.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = course.lock().unwrap().port.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok());
                // Dropping the client's end is how a dead line shows itself.
                let Some(server) = server else { continue };
                for (way, from, to) in [(Way::Up, &client, &server), (Way::Down, &server, &client)] {
                    let (from, to, course) = (from.try_clone().unwrap(), to.try_clone().unwrap(), course.clone());
                    thread::spawn(move || pass(way, from, to, &course));
                }
            }
        });
        proxy
    }

    /// Cuts the line once, after so many bytes.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.course.lock().unwrap().cut = Some((way, bytes));
    }

    /// Whether the line has been cut.
    pub fn was_cut(&self) -> bool {
        self.course.lock().unwrap().cut.is_none()
    }

    /// Leads to another port, or to nobody.
    pub fn lead_to(&self, port: Option<u16>) {
        self.course.lock().unwrap().port = port;
    }

    /// Bytes that have passed one way.
    pub fn passed(&self, way: Way) -> usize {
        self.course.lock().unwrap().passed[way as usize]
    }
}

fn pass(way: Way, mut from: TcpStream, mut to: TcpStream, course: &Mutex<Course>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut end = None;
        {
            let mut course = course.lock().unwrap();
            if let Some((_, left)) = course.cut.as_mut().filter(|(cut, _)| *cut == way) {
                if *left <= count {
                    (end, course.cut) = (Some(*left), None);
                } else {
                    *left -= count;
                }
            }
            course.passed[way as usize] += end.unwrap_or(count);
        }
        let passes = &buffer[..end.unwrap_or(count)];
        if to.write_all(passes).is_err() || end.is_some() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
