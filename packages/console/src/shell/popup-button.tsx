import { type ReactNode, useState } from 'react';

interface PopupButtonProps {
  readonly popup: 'dialog' | 'menu';
  /** Renders the popup. */
  readonly render: (close: () => void) => ReactNode;
  /** Renders the button with these props. */
  readonly children: (props: {
    readonly 'aria-haspopup': 'dialog' | 'menu';
    readonly 'aria-expanded': boolean;
    readonly onClick: () => void;
  }) => ReactNode;
}

/** A button that opens a popup below it. */
export function PopupButton({ popup, render, children }: PopupButtonProps) {
  const [opened, setOpened] = useState(false);
  return (
    <span className="fc-popup">
      {children({
        'aria-haspopup': popup,
        'aria-expanded': opened,
        onClick: () => setOpened(!opened),
      })}
      {opened && render(() => setOpened(false))}
    </span>
  );
}
