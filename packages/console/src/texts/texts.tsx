import { createContext, type ReactNode, use, useEffect, useMemo, useState } from 'react';
import { en, type Texts } from './en.js';
import { createFormat, type Format } from './format.js';
import { ru } from './ru.js';
import { withVisibleArguments } from './visible.js';

export const languages = [
  { code: 'en', name: 'English' },
  { code: 'ru', name: 'Русский' },
] as const;

type Language = (typeof languages)[number]['code'];

const textsOf: Readonly<Record<Language, Texts>> = {
  en: withVisibleArguments(en),
  ru: withVisibleArguments(ru),
};

export interface TextsValue {
  readonly t: Texts;
  readonly format: Format;
  readonly language: Language;
  readonly setLanguage: (language: Language) => void;
}

const TextsContext = createContext<TextsValue | null>(null);

const storageKey = 'flagcast.language';

/** The chosen language, else the first one of the browser's that there is. */
export function TextsProvider({ children }: { readonly children: ReactNode }) {
  const [language, setLanguage] = useState(chosenLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const value = useMemo<TextsValue>(
    () => ({
      t: textsOf[language],
      format: createFormat(localeOf(language)),
      language,
      setLanguage: (next) => {
        localStorage.setItem(storageKey, next);
        setLanguage(next);
      },
    }),
    [language],
  );
  return <TextsContext value={value}>{children}</TextsContext>;
}

export function useTexts(): TextsValue {
  const texts = use(TextsContext);
  if (texts === null) throw new Error('there is no TextsProvider');
  return texts;
}

function chosenLanguage(): Language {
  const wanted = [localStorage.getItem(storageKey), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  const found = wanted.flatMap((code) => languages.filter((language) => language.code === code));
  return found[0]?.code ?? 'en';
}

/** As the browser's owner writes the language, e.g. with the day before the month. */
function localeOf(language: Language): string {
  return navigator.languages.find((tag) => tag.slice(0, 2) === language) ?? language;
}
