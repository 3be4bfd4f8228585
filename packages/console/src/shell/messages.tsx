import { Notification } from '@mantine/core';
import { createContext, type ReactNode, use, useCallback, useEffect, useRef, useState } from 'react';
import { ApiError } from '../api/api.js';
import type { Texts } from '../texts/en.js';
import { useTexts } from '../texts/texts.js';
import { nameOf, visible } from '../texts/visible.js';

type Kind = 'done' | 'problem';

interface Messages {
  /** Shows one line for a while. */
  readonly tell: (kind: Kind, text: string) => void;
  /** Shows what went wrong until it is closed. */
  readonly tellError: (error: unknown) => void;
}

const MessagesContext = createContext<Messages | null>(null);

export function useMessages(): Messages {
  const messages = use(MessagesContext);
  if (messages === null) throw new Error('there is no MessagesProvider');
  return messages;
}

const shownMs = 5_000;
const mostShown = 4;

interface Message {
  readonly id: number;
  readonly kind: Kind;
  readonly text: string;
}

/** Short messages at the edge of the screen, told to screen readers as they come. */
export function MessagesProvider({ children }: { readonly children: ReactNode }) {
  const { t } = useTexts();
  const [shown, setShown] = useState<readonly Message[]>([]);
  const lastId = useRef(0);
  const remove = useCallback((id: number) => {
    setShown((messages) => messages.filter((message) => message.id !== id));
  }, []);
  const tell = useCallback<Messages['tell']>((kind, text) => {
    lastId.current += 1;
    const message = { id: lastId.current, kind, text };
    setShown((messages) => [...messages.slice(1 - mostShown), message]);
  }, []);
  const tellError = useCallback<Messages['tellError']>(
    (error) => {
      tell('problem', describeError(error, t));
    },
    [tell, t],
  );
  return (
    <MessagesContext value={{ tell, tellError }}>
      {children}
      <div className="fc-messages" role="status" aria-live="polite">
        {shown.map((message) => (
          <Passing key={message.id} message={message} remove={remove} closeLabel={t.shell.close} />
        ))}
      </div>
    </MessagesContext>
  );
}

interface PassingProps {
  readonly message: Message;
  readonly remove: (id: number) => void;
  readonly closeLabel: string;
}

function Passing({ message: { id, kind, text }, remove, closeLabel }: PassingProps) {
  useEffect(() => {
    if (kind === 'problem') return;
    const timer = setTimeout(() => remove(id), shownMs);
    return () => clearTimeout(timer);
  }, [id, kind, remove]);
  return (
    <Notification
      role="presentation"
      color={kind === 'problem' ? 'red' : 'teal'}
      onClose={() => remove(id)}
      closeButtonProps={{ 'aria-label': closeLabel }}
      withBorder
    >
      {visible(text)}
    </Notification>
  );
}

/** One line about what went wrong. */
export function describeError(error: unknown, { errors }: Texts): string {
  if (!(error instanceof ApiError)) return String(error);
  return Object.hasOwn(errors, error.code) ? nameOf(errors, error.code) : visible(error.message);
}
