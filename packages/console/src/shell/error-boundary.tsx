import { Component, type ReactNode } from 'react';

interface ErrorBoundaryProps {
  /** Shown instead of the children after an error. */
  readonly fallback: ReactNode;
  /** Another key renders the children again. */
  readonly resetKey: string;
  readonly children: ReactNode;
}

interface ErrorBoundaryState {
  /** The key at which the children failed; empty until it is known, null without an error. */
  readonly failedKey: string | null;
}

/** Limits an error to a part of the page. React logs the error in the browser's console. */
export class ErrorBoundary extends Component<ErrorBoundaryProps, ErrorBoundaryState> {
  override readonly state: ErrorBoundaryState = { failedKey: null };

  static getDerivedStateFromError(): Partial<ErrorBoundaryState> {
    return { failedKey: '' };
  }

  override componentDidCatch(): void {
    this.setState({ failedKey: this.props.resetKey });
  }

  override render(): ReactNode {
    const { failedKey } = this.state;
    const failed = failedKey === '' || failedKey === this.props.resetKey;
    return failed ? this.props.fallback : this.props.children;
  }
}
