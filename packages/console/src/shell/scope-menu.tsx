import { Menu } from '@mantine/core';
import type { ReactNode } from 'react';
import { CheckIcon } from './icons.js';
import { MenuPopup } from './popup.js';

export interface ScopeChoices {
  readonly heading: string;
  readonly choices: readonly { readonly value: string; readonly label: ReactNode }[];
  readonly value: string;
  readonly onChange: (value: string) => void;
}

/** The menu of the projects or environments, open while it is mounted. */
export default function ScopeMenu(props: ScopeChoices & { readonly onClose: () => void }) {
  const { heading, choices, value, onChange, onClose } = props;
  return (
    <MenuPopup onClose={onClose} position="bottom-start" width={240}>
      <Menu.Label>{heading}</Menu.Label>
      {choices.map((choice) => (
        <Menu.Item
          key={choice.value}
          aria-current={choice.value === value}
          rightSection={choice.value === value ? <CheckIcon size={16} /> : null}
          onClick={() => onChange(choice.value)}
        >
          {choice.label}
        </Menu.Item>
      ))}
    </MenuPopup>
  );
}
