import type { Api } from '../api/api.js';

/** Not in all browsers, so not in the types of the DOM. */
interface FilePicker {
  readonly showSaveFilePicker?: (options: {
    readonly suggestedName: string;
  }) => Promise<FileSystemFileHandle>;
}

/** A browser without a file picker keeps the file in its memory until it is complete. */
const maxBufferedBytes = 268_435_456;

/** The file is too large for a browser without a file picker. */
export class ExportTooLargeError extends Error {
  override readonly name = 'ExportTooLargeError';
}

interface ExportOptions {
  readonly path: string;
  /** The suggested name, before the server's is known. */
  readonly name: string;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}

/**
 * Saves a response as a file: while it arrives, where the user can choose a place for it; otherwise when it is complete.
 * Rejects if the connection breaks; then nothing is saved. The token is in a header, never in an address.
 */
export async function saveExport(api: Api, { path, name, signal, onProgress }: ExportOptions): Promise<void> {
  // A browser asks only directly after a click, so this comes first.
  const file = await (globalThis as FilePicker).showSaveFilePicker?.({ suggestedName: name });
  const { body, headers } = await api.open(path, signal);
  if (body === null) throw new Error('The response has no body');
  let bytes = 0;
  const counted = body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        bytes += chunk.length;
        if (file === undefined && bytes > maxBufferedBytes) throw new ExportTooLargeError();
        onProgress(bytes);
        controller.enqueue(chunk);
      },
    }),
  );
  if (file !== undefined) {
    // If the pipe breaks, the browser discards what it has written.
    await counted.pipeTo(await file.createWritable(), { signal });
    return;
  }
  const url = URL.createObjectURL(await new Response(counted, { headers }).blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = nameIn(headers) ?? name;
  link.click();
  // The browser has to read it first.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The name that the server gives the file. */
function nameIn(headers: Headers): string | null {
  const encoded = /filename\*=UTF-8''([^;]+)/.exec(headers.get('content-disposition') ?? '')?.[1];
  return encoded === undefined ? null : decodeURIComponent(encoded);
}
