import './later-styles.js';
import { Menu, type MenuProps, Popover, type PopoverProps } from '@mantine/core';
import type { ComponentProps, ReactNode } from 'react';
import { useReturnFocus } from './use-return-focus.js';

interface PopupProps extends Pick<PopoverProps, 'width'> {
  readonly label: string;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** The popup of a PopupButton, open while it is mounted. */
export function Popup({ label, width, onClose, children }: PopupProps) {
  useReturnFocus();
  return (
    <Popover opened onChange={onClose} position="bottom-end" width={width} trapFocus shadow="md">
      <Popover.Target>
        <PopupAnchor onClick={onClose} />
      </Popover.Target>
      <Popover.Dropdown p="sm" aria-label={label}>
        {children}
      </Popover.Dropdown>
    </Popover>
  );
}

interface MenuPopupProps extends Pick<MenuProps, 'width' | 'position' | 'closeOnItemClick'> {
  readonly onClose: () => void;
  /** The items. */
  readonly children: ReactNode;
}

/** The menu of a PopupButton, open while it is mounted. */
export function MenuPopup({ onClose, children, ...props }: MenuPopupProps) {
  useReturnFocus();
  return (
    <Menu opened onClose={onClose} {...props}>
      <Menu.Target>
        <PopupAnchor />
      </Menu.Target>
      <Menu.Dropdown mah="70dvh" style={{ overflowY: 'auto' }}>
        {children}
      </Menu.Dropdown>
    </Menu>
  );
}

/** Covers the button while its popup is open, so that a click on it closes the popup. */
function PopupAnchor(props: ComponentProps<'span'>) {
  return <span {...props} aria-hidden="true" className="fc-popup-anchor" />;
}
