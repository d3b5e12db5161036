//! Bytes from a thread that blocks to a stream that a task reads.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{ByteStream, OperationError};

/// Bytes gathered before they are handed on.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the reader; beyond that the writer waits.
const PIECES_MAX: usize = 8;

/// The writing end, for a thread that may block. A reader that has gone is
/// [`io::ErrorKind::BrokenPipe`].
pub(super) struct ChannelWriter {
    sender: mpsc::Sender<Result<Bytes, OperationError>>,
    piece: BytesMut,
}

/// Runs `work` on a thread that may block; what it writes is the stream, and
/// an error that it returns ends it.
pub(super) fn stream_of(
    work: impl FnOnce(&mut ChannelWriter) -> Result<(), OperationError> + Send + 'static,
) -> ByteStream {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let mut writer = ChannelWriter {
        sender,
        piece: BytesMut::new(),
    };
    tokio::task::spawn_blocking(move || {
        let outcome = work(&mut writer).and_then(|()| Ok(writer.flush()?));
        if let Err(error) = outcome {
            // Nobody is left to tell if the reader has gone.
            drop(writer.sender.blocking_send(Err(error)));
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
