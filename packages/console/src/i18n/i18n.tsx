import { createSafeContext } from '@mantine/core';
import { type ReactNode, startTransition, Suspense, use, useLayoutEffect, useMemo, useState } from 'react';
import { en, type Messages } from './en.js';
import { createFormat, type Format } from './format.js';
import { withVisibleArguments } from './visible.js';

export const languages = [
  { code: 'en', name: 'English' },
  { code: 'ru', name: 'Русский' },
] as const;

type Language = (typeof languages)[number]['code'];

/** The messages that are loaded, or load. English is part of the first load. */
const messagesOf: Partial<Record<Language, Messages | Promise<Messages>>> = { en: withVisibleArguments(en) };

async function loadRussian(): Promise<Messages> {
  try {
    return withVisibleArguments((await import('./ru.js')).ru);
  } catch {
    // Without a connection. The choice is kept for the next load of the page.
    return withVisibleArguments(en);
  }
}

export interface I18n {
  /** The messages of the language. */
  readonly t: Messages;
  readonly format: Format;
  readonly language: Language;
  readonly setLanguage: (language: Language) => void;
}

const [I18nContext, useI18n] = createSafeContext<I18n>('useI18n needs an I18nProvider');
export { useI18n };

const storageKey = 'flagcast.language';

/** Provides the language that the user has chosen, else the first supported one of the browser, else English. */
export function I18nProvider({ children }: { readonly children: ReactNode }) {
  const [language, setLanguage] = useState(initialLanguage);
  useLayoutEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  return (
    <Suspense>
      <MessagesProvider language={language} setLanguage={setLanguage}>
        {children}
      </MessagesProvider>
    </Suspense>
  );
}

interface MessagesProviderProps extends Pick<I18n, 'language' | 'setLanguage'> {
  readonly children: ReactNode;
}

function MessagesProvider({ language, setLanguage, children }: MessagesProviderProps) {
  const loaded = (messagesOf[language] ??= loadRussian());
  const messages = loaded instanceof Promise ? use(loaded) : loaded;
  const value = useMemo<I18n>(
    () => ({
      t: messages,
      format: createFormat(localeOf(language), messages.time),
      language,
      setLanguage: (next) => {
        localStorage.setItem(storageKey, next);
        // The page stays while the messages load.
        startTransition(() => setLanguage(next));
      },
    }),
    [messages, language, setLanguage],
  );
  return <I18nContext value={value}>{children}</I18nContext>;
}

function initialLanguage(): Language {
  const wanted = [localStorage.getItem(storageKey), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  const found = wanted.flatMap((code) => languages.filter((language) => language.code === code));
  return found[0]?.code ?? 'en';
}

/** The browser's regional variant of the language, which decides for example the order of day and month. */
function localeOf(language: Language): string {
  return navigator.languages.find((tag) => tag.slice(0, 2) === language) ?? language;
}
